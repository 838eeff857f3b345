//! What the consumers have still to do, as the broker tells.

use serde_json::Value;

/// Messages that a consumer has not acknowledged, by the answer of `/jsz?consumers=true`.
pub fn unconsumed(jsz: &Value) -> u64 {
    fn each<'a>(value: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
        value
            .get(list)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    }
    let count = |consumer: &Value, name| consumer.get(name).and_then(Value::as_u64);
    each(jsz, "account_details")
        .flat_map(|account| each(account, "stream_detail"))
        .flat_map(|stream| each(stream, "consumer_detail"))
        .filter_map(|consumer| {
            Some(count(consumer, "num_pending")? + count(consumer, "num_ack_pending")?)
        })
        .sum()
}
