use proptest::prelude::*;
use proptest::strategy::ValueTree;
use secrecy::ExposeSecret;
use serde_json::json;

use super::*;

const SECRET: &str = "a secret of more than thirty-two characters";

fn key(secret: &str) -> SigningKey {
    SigningKey::of_secret(&SecretString::from(secret)).unwrap()
}

fn ring(keys: &[&SigningKey]) -> KeyRing {
    keys.iter().map(|key| key.public()).collect()
}

fn session(letter: char) -> SessionId {
    letter.to_string().repeat(20).parse().unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn claims() -> Claims {
    let user = Some("alice".to_owned());
    let more = json!({"role": "editor"}).as_object().cloned();
    Claims { sub: user, claims: more, ..Claims::new(&session('a'), Use::Bearer, at(1000), Span::seconds(60)) }
}

fn text(claims: &Claims, key: &SigningKey) -> String {
    sign(claims, key).unwrap().expose_secret().to_owned()
}

/// A JWT with this header, and whatever signature.
fn forged(header: &Value, payload: &Claims, signature: &[u8]) -> String {
    let part = |json: String| URL_SAFE_NO_PAD.encode(json);
    let payload = part(serde_json::to_string(payload).unwrap());
    format!("{}.{payload}.{}", part(header.to_string()), URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn what_was_signed_is_read_again() {
    let key = key(SECRET);
    let ticket = text(&claims(), &key);
    assert_eq!(verify(&ticket, &ring(&[&key]), &session('a'), at(1059)), Ok(claims_of(&ticket, &key)));
    assert_eq!(claims_of(&ticket, &key).sub.as_deref(), Some("alice"));
    assert!(looks_like_ours(&ticket, &KeyRing::default()) && ticket.len() < 600, "{}", ticket.len());
}

fn claims_of(ticket: &str, key: &SigningKey) -> Claims {
    open(ticket, &ring(&[key])).unwrap()
}

#[test]
fn every_wrong_ticket_is_wrong_for_its_own_reason() {
    let (ours, other) = (key(SECRET), key("another secret of more than thirty-two chars"));
    let known = ring(&[&ours]);
    let good = text(&claims(), &ours);
    let verified = |ticket: &str, session, now| verify(ticket, &known, &session, at(now)).map(drop);
    assert_eq!(verified(&good, session('a'), 1000), Ok(()));
    assert_eq!(verified(&good, session('b'), 1000), Err(TicketError::WrongSession));
    assert_eq!(verified(&good, session('a'), 1060), Err(TicketError::Expired));
    assert_eq!(verified(&good, session('a'), 970), Ok(()), "clocks differ a little");
    assert_eq!(verified(&good, session('a'), 969), Err(TicketError::NotYet));
    assert_eq!(verified(&text(&claims(), &other), session('a'), 1000), Err(TicketError::UnknownKey));

    let marks = |alg: &str| json!({"alg": alg, "typ": TYPE, "kid": ours.id()});
    for alg in ["none", "None", "", "HS256", "ES256", "RS256", "eddsa"] {
        let forged = forged(&marks(alg), &claims(), b"");
        assert_eq!(verified(&forged, session('a'), 1000), Err(TicketError::Algorithm), "{alg}");
        assert!(looks_like_ours(&forged, &known), "{alg}");
    }
    // The public key as the secret of a HMAC: the classic.
    let mut mac = crate::mac::keyed(&String::from(ours.public().clone()).into());
    hmac::Mac::update(&mut mac, b"x");
    let classic = forged(&marks("HS256"), &claims(), &hmac::Mac::finalize(mac).into_bytes());
    assert_eq!(verified(&classic, session('a'), 1000), Err(TicketError::Algorithm));
    assert_eq!(
        verified(&forged(&marks("EdDSA"), &claims(), &[7; 64]), session('a'), 1000),
        Err(TicketError::Signature)
    );
    assert_eq!(
        verified(&forged(&marks("EdDSA"), &claims(), b""), session('a'), 1000),
        Err(TicketError::Signature)
    );
    let no_kid = forged(&json!({"alg": "EdDSA", "typ": TYPE}), &claims(), &[7; 64]);
    assert_eq!(verified(&no_kid, session('a'), 1000), Err(TicketError::UnknownKey));
    let issuer = Claims { iss: "somebody".to_owned(), ..claims() };
    assert_eq!(verified(&text(&issuer, &ours), session('a'), 1000), Err(TicketError::Malformed));
    for malformed in
        ["", ".", "..", "a.b.c", &good[..good.len() / 2], &"a".repeat(5000), &format!("{good}.x")]
    {
        assert!(
            matches!(
                verified(malformed, session('a'), 1000),
                Err(TicketError::Malformed | TicketError::Signature)
            ),
            "{malformed}"
        );
    }
}

#[test]
fn an_applications_own_tokens_are_not_ours() {
    let ours = key(SECRET);
    let foreign = forged(&json!({"alg": "RS256", "typ": "JWT", "kid": "their-key"}), &claims(), b"sig");
    assert!(!looks_like_ours(&foreign, &ring(&[&ours])));
    for other in ["", "bvk_ci_abc", "opaque", "Zm9v.YmFy.YmF6"] {
        assert!(!looks_like_ours(other, &ring(&[&ours])), "{other}");
    }
}

#[test]
fn during_a_rotation_both_keys_are_good() {
    let (old, new) = (key(SECRET), key("the next secret, of more than thirty-two chars"));
    let both = ring(&[&old, &new]);
    for key in [&old, &new] {
        assert!(open(&text(&claims(), key), &both).is_ok());
    }
    assert_eq!(open(&text(&claims(), &old), &ring(&[&new])), Err(TicketError::UnknownKey));
}

#[test]
fn a_link_is_fresh_for_a_minute() {
    let link = Claims::new(&session('a'), Use::Enter, at(1000), Span::seconds(3600));
    assert!(link.is_fresh_link(at(1060)) && !link.is_fresh_link(at(1061)));
    assert!(!claims().is_fresh_link(at(1000)), "a bearer ticket is no link");
}

#[test]
fn times_are_rounded_up_to_seconds() {
    let now = Timestamp::from_millisecond(1_000_250).unwrap();
    let made = Claims::new(&session('a'), Use::Bearer, now, Span::millis(1000));
    assert_eq!((made.iat, made.iat_ms, made.exp), (1000, 1_000_250, 1002));
    assert_eq!(made.expires_at(), at(1002));
}

#[test]
fn a_key_follows_from_its_secret_and_is_not_shown() {
    let (key, again) = (key(SECRET), key(SECRET));
    assert_eq!((key.id(), key.public()), (again.id(), again.public()));
    assert_eq!((key.id().len(), key.public().id().as_str()), (16, key.id()));
    assert!(!format!("{key:?}").contains("secret"));
    assert_eq!(
        SigningKey::of_secret(&"short".to_owned().into()).map(drop).unwrap_err(),
        InvalidKey::ShortSecret
    );
    let written = serde_json::to_string(key.public()).unwrap();
    assert_eq!(serde_json::from_str::<PublicKey>(&written).unwrap(), *key.public());
    assert!(serde_json::from_str::<PublicKey>("\"AAAA\"").is_err());
}

#[test]
fn the_longest_ticket_can_be_read() {
    let key = key(SECRET);
    let filler = "x".repeat(MAX_CLAIMS - 8);
    let longest = Claims {
        sub: Some("\"".repeat(256)),
        claims: json!({ "a": filler }).as_object().cloned(),
        ..claims()
    };
    let ticket = text(&longest, &key);
    assert!(ticket.len() <= MAX_TEXT - 60, "{} with a cookie's name and tag around it", ticket.len());
    assert!(open(&ticket, &ring(&[&key])).is_ok());
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics_and_opens_nothing(text in "\\PC{0,80}(\\.\\PC{0,80}){0,3}") {
        let ring = ring(&[&key(SECRET)]);
        prop_assert!(open(&text, &ring).is_err());
        let _ = looks_like_ours(&text, &ring);
    }

    #[test]
    fn a_ticket_with_another_byte_opens_nothing(place in any::<prop::sample::Index>(), other in "[A-Za-z0-9_.-]") {
        let key = key(SECRET);
        let mut ticket = text(&claims(), &key);
        let place = place.index(ticket.len());
        prop_assume!(ticket[place..=place] != other);
        ticket.replace_range(place..=place, &other);
        prop_assert!(open(&ticket, &ring(&[&key])).is_err());
    }
}

/// A ticket of which parts were exchanged for parts of others, or for anything.
fn mangled(good: &[String]) -> impl Strategy<Value = String> + use<> {
    let parts: Vec<String> = good.iter().flat_map(|ticket| ticket.split('.').map(str::to_owned)).collect();
    let part = prop_oneof![
        4 => proptest::sample::select(parts),
        2 => "[A-Za-z0-9_-]{0,60}",
        1 => "\\PC{0,12}",
        1 => "\\{\"(alg|kid|typ)\":\"(EdDSA|none|HS256|bivouac\\+jwt)\"\\}".prop_map(|json| URL_SAFE_NO_PAD.encode(json)),
    ];
    (proptest::collection::vec(part, 0..5), any::<prop::sample::Index>(), any::<Option<char>>()).prop_map(
        |(parts, place, other)| {
            let mut chars: Vec<char> = parts.join(".").chars().collect();
            if let (Some(other), false) = (other, chars.is_empty()) {
                let place = place.index(chars.len());
                chars[place] = other;
            }
            chars.into_iter().collect()
        },
    )
}

#[test]
#[ignore = "runs for as long as it is told to: make fuzz"]
fn fuzz_ticket() {
    let seconds = std::env::var("BIVOUAC_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let until = std::time::Instant::now() + std::time::Duration::from_secs(seconds.unwrap_or(10));
    let key = key(SECRET);
    let link = Claims { kind: Use::Enter, ..claims() };
    let good = [text(&claims(), &key), text(&link, &key)];
    let (ring, strategy) = (ring(&[&key]), mangled(&good));
    let mut runner = proptest::test_runner::TestRunner::default();
    while std::time::Instant::now() < until {
        let text = strategy.new_tree(&mut runner).unwrap().current();
        let _ = looks_like_ours(&text, &ring);
        assert_eq!(open(&text, &ring).is_ok(), good.contains(&text), "{text}");
    }
}
