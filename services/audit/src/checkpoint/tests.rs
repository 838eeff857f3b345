//! Checkpoints that were forged, dropped, replaced or contradict each other are found.

use aws_lc_rs::signature::EcdsaKeyPair;

use super::*;

pub(crate) fn key() -> SigningKey {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let der = pair.to_pkcs8v1().unwrap();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        BASE64.encode(der.as_ref())
    );
    SigningKey::from_pem(&pem).unwrap()
}

fn acme() -> LogKey {
    LogKey {
        tenant: TenantId::new(Uuid::from_u128(1)),
        log: Log::Tenant,
    }
}

fn head(sequence: i64) -> Head {
    Head {
        sequence,
        hash: [u8::try_from(sequence).unwrap(); 32],
    }
}

/// Checkpoints that say that the log of acme ended at these sequences.
fn signed(key: &SigningKey, sequences: &[i64]) -> Vec<pb::SignedCheckpoint> {
    let mut tip = Tip::default();
    let sign = |sequence: &i64| {
        let heads = [(acme(), head(*sequence))];
        let checkpoint = tip.next(OffsetDateTime::UNIX_EPOCH, &heads, 1);
        let signed = key.sign(&checkpoint).unwrap();
        assert_eq!(tip.move_to(checkpoint.number, &signed), heads);
        signed
    };
    sequences.iter().map(sign).collect()
}

fn faults(
    key: &SigningKey,
    checkpoints: &[pb::SignedCheckpoint],
    anchor: Option<&Anchor>,
    last: Option<i64>,
) -> Vec<ChainFault> {
    let keys = key.public();
    let mut chain = Checkpoints::new(&keys, anchor, None);
    for it in checkpoints {
        chain.check(it);
    }
    chain.finish(last).faults
}

#[test]
fn checkpoints_that_were_left_alone_are_good_and_say_where_a_log_ended() {
    let key = key();
    let checkpoints = signed(&key, &[3, 7, 7, 9]);
    let keys = key.public();
    let anchor = Anchor::of(&checkpoints[1]);
    let mut chain = Checkpoints::new(&keys, anchor.as_ref(), None);
    for it in &checkpoints {
        chain.check(it);
    }
    let checked = chain.finish(Some(4));
    assert_eq!(checked.faults, []);
    assert_eq!(checked.last, Anchor::of(&checkpoints[3]));
    let known = checked.heads[&acme()]
        .iter()
        .map(|it| (it.head, it.checkpoint));
    assert_eq!(
        known.collect::<Vec<_>>(),
        [(head(3), 1), (head(7), 2), (head(9), 4)]
    );
}

#[test]
fn a_dropped_checkpoint_is_found_the_last_one_by_whoever_knows_of_it() {
    let key = key();
    let all = signed(&key, &[1, 2, 3, 4]);
    let mut middle = all.clone();
    middle.remove(1);
    assert_eq!(
        faults(&key, &middle, None, None),
        [ChainFault::Missing(2, 2)]
    );
    assert_eq!(
        faults(&key, &all[1..], None, None),
        [ChainFault::Missing(1, 1)]
    );
    let cut = &all[..2];
    assert_eq!(faults(&key, cut, None, None), []);
    assert_eq!(
        faults(&key, cut, None, Some(4)),
        [ChainFault::Missing(3, 4)]
    );
    let kept = Anchor::of(&all[3]);
    assert_eq!(
        faults(&key, cut, kept.as_ref(), None),
        [ChainFault::Cut(4, 2)]
    );
}

#[test]
fn a_changed_checkpoint_and_one_of_another_key_are_not_signed() {
    let key = key();
    let mut checkpoints = signed(&key, &[1, 2, 3]);
    let last = checkpoints[2].checkpoint.len() - 1;
    checkpoints[2].checkpoint[last] ^= 1;
    assert_eq!(
        faults(&key, &checkpoints, None, None),
        [ChainFault::Unsigned(3)]
    );

    let other = super::tests::key();
    let forged = signed(&other, &[1, 2, 3]);
    assert_eq!(
        faults(&key, &forged, None, None),
        [1, 2, 3].map(ChainFault::Unsigned)
    );
    let mut claimed = forged;
    for it in &mut claimed {
        it.key_id = checkpoints[0].key_id.clone();
    }
    assert_eq!(
        faults(&key, &claimed, None, None),
        [1, 2, 3].map(ChainFault::Unsigned)
    );
}

#[test]
fn checkpoints_made_anew_with_the_right_key_differ_from_one_that_was_kept() {
    let key = key();
    let kept = Anchor::of(&signed(&key, &[1, 2, 3])[1]);
    let anew = signed(&key, &[1, 5, 6]);
    assert_eq!(faults(&key, &anew, None, None), []);
    assert_eq!(
        faults(&key, &anew, kept.as_ref(), None),
        [ChainFault::Replaced(2)]
    );
}

#[test]
fn a_checkpoint_of_another_history_does_not_follow() {
    let key = key();
    let mut checkpoints = signed(&key, &[1, 2, 3]);
    checkpoints[1] = signed(&key, &[1, 9])[1].clone();
    assert_eq!(
        faults(&key, &checkpoints, None, None),
        [ChainFault::Unchained(3), ChainFault::Contradicts(3)]
    );
}

#[test]
fn checkpoints_out_of_order_and_repeated_ones_are_found() {
    let key = key();
    let mut checkpoints = signed(&key, &[1, 2, 3]);
    checkpoints.swap(1, 2);
    assert_eq!(
        faults(&key, &checkpoints, None, None),
        [ChainFault::Missing(2, 2), ChainFault::Misplaced(2, 4)]
    );
    let once = signed(&key, &[1]);
    let twice = [once.clone(), once].concat();
    assert_eq!(
        faults(&key, &twice, None, None),
        [ChainFault::Misplaced(1, 2)]
    );
}

#[test]
fn what_is_no_checkpoint_is_found_and_the_chain_goes_on_after_it() {
    let key = key();
    let mut tip = Tip::default();
    let noise = pb::SignedCheckpoint {
        checkpoint: vec![0xff; 9],
        ..Default::default()
    };
    assert_eq!(tip.move_to(1, &noise), []);
    let next = key
        .sign(&tip.next(OffsetDateTime::UNIX_EPOCH, &[(acme(), head(1))], 1))
        .unwrap();
    assert_eq!(
        faults(&key, &[noise, next], None, None),
        [ChainFault::Unreadable(1)]
    );
}

#[test]
fn public_keys_are_read_from_a_jwks_and_from_pem() {
    let key = key();
    let point = key.pair.public_key().as_ref().to_vec();
    let jwks = serde_json::json!({ "keys": [{
        "kty": "EC", "crv": "P-256", "kid": "not believed",
        "x": BASE64URL_NOPAD.encode(&point[1..33]), "y": BASE64URL_NOPAD.encode(&point[33..]),
    }]});
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        BASE64.encode(&[SPKI_PREFIX, &point].concat())
    );
    let checkpoint = signed(&key, &[1]).remove(0);
    for text in [jwks.to_string(), pem] {
        assert!(PublicKeys::read(&text).unwrap().vouch_for(&checkpoint));
    }
    for text in ["", "{}", r#"{"keys":[]}"#, "-----BEGIN PUBLIC KEY-----"] {
        assert!(PublicKeys::read(text).is_none(), "{text}");
    }
}
