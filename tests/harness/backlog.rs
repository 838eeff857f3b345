//! What the consumers have still to do, as the broker tells.

use serde_json::Value;

/// Messages that a consumer has not acknowledged, by the answer of `/jsz?consumers=true`. Who watches a bucket applies
/// nothing, and is there for half a minute after its process was killed.
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
        .filter(|stream| {
            let name = stream.get("name").and_then(Value::as_str);
            name.is_some_and(|name| !name.starts_with("KV_"))
        })
        .flat_map(|stream| each(stream, "consumer_detail"))
        .filter_map(|consumer| {
            Some(count(consumer, "num_pending")? + count(consumer, "num_ack_pending")?)
        })
        .sum()
}
