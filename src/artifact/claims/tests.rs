use super::*;

/// A component that holds a core module with a token of its own, which is another's and no concern of ours.
fn component() -> Vec<u8> {
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    custom(&mut module, "jwt", b"not ours");
    custom(&mut module, "name", b"inner");
    let mut whole = b"\0asm\x0d\0\x01\0".to_vec();
    section(&mut whole, CORE_MODULE, &module);
    custom(&mut whole, "producers", &[7; 300]);
    whole
}

fn custom(out: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    section(out, 0, &[&[name.len() as u8], name.as_bytes(), bytes].concat());
}

/// What wash does, by the description above: hash, token, section.
pub(in crate::artifact) fn sign(wasm: &[u8], account: &KeyPair, more: serde_json::Value) -> Vec<u8> {
    let hash = HEXUPPER.encode(&Sha256::digest(strip(wasm).unwrap().bytes));
    let mut body = serde_json::json!({
        "jti": "1", "iat": 1_700_000_000, "iss": account.public_key(), "sub": KeyPair::new_module().public_key(),
        "wascap": { "name": "press", "hash": hash, "tags": ["a"], "rev": 3, "ver": "0.3.0", "prov": false },
        "wascap_revision": 3,
    });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    let mut signed = wasm.to_vec();
    custom(&mut signed, "wasmcloud_jwt", token(&body, account).as_bytes());
    signed
}

fn token(body: &serde_json::Value, account: &KeyPair) -> String {
    let part = |json: &serde_json::Value| BASE64URL_NOPAD.encode(json.to_string().as_bytes());
    let signed = format!("{}.{}", part(&serde_json::json!({ "typ": "jwt", "alg": "Ed25519" })), part(body));
    let signature = account.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
}

fn none() -> serde_json::Value {
    serde_json::json!({})
}

#[test]
fn claims_come_out_as_they_went_in() {
    // Goal: who signed it and as what is known. Method: a component signed as wash does it, and one that is not signed.
    let account = KeyPair::new_account();
    assert_eq!(embedded(&component()), Ok(None));
    let signed = sign(&component(), &account, serde_json::json!({ "nbf": 5, "exp": 9 }));
    let claims = embedded(&signed).unwrap().unwrap();
    assert_eq!((claims.issuer, claims.name.as_deref()), (account.public_key(), Some("press")));
    assert_eq!((claims.revision, claims.version.as_deref()), (Some(3), Some("0.3.0")));
    assert_eq!((claims.tags, claims.not_before, claims.expires), (vec!["a".to_owned()], Some(5), Some(9)));
}

#[test]
fn any_changed_byte_of_the_content_is_noticed() {
    // Goal: the signature is of all that could ever run. Method: every byte of a signed component changed in turn, but for
    // the tokens, which are not part of the content.
    let signed = sign(&component(), &KeyPair::new_account(), none());
    let content = component().len();
    let inner = signed.windows(8).position(|window| window == b"not ours").unwrap();
    for at in 0..content {
        let mut changed = signed.clone();
        changed[at] ^= 1;
        let whole = embedded(&changed);
        match inner <= at && at < inner + 8 {
            true => assert!(whole.is_ok(), "byte {at}"),
            // A custom section of another name is content.
            false => assert!(!matches!(whole, Ok(Some(_))), "byte {at}: {whole:?}"),
        }
    }
}

#[test]
fn a_token_of_somebody_else_or_of_nothing_vouches_for_nothing() {
    // Goal: every way of forging one has its own answer. Method: one of each.
    let (account, other) = (KeyPair::new_account(), KeyPair::new_account());
    let issuer = account.public_key();
    let pretended = sign(&component(), &other, serde_json::json!({ "iss": issuer.clone() }));
    assert_eq!(embedded(&pretended), Err(ClaimsError::Signature { issuer: issuer.clone() }));
    let early = sign(&component(), &account, serde_json::json!({ "wascap_revision": 2 }));
    assert_eq!(embedded(&early), Err(ClaimsError::Revision { found: 2 }));
    for (key, value) in
        [("iss", KeyPair::new_module().public_key()), ("sub", issuer.clone()), ("sub", "M".into())]
    {
        let wrong = sign(&component(), &account, serde_json::json!({ key: value }));
        assert!(matches!(embedded(&wrong), Err(ClaimsError::Key { .. })), "{key}");
    }
    let twice = sign(&sign(&component(), &account, none()), &account, none());
    assert_eq!(embedded(&twice), Err(ClaimsError::Several(2)));

    let mut moved = component();
    custom(&mut moved, "new", b"more");
    let honest = sign(&component(), &account, none());
    let section = &honest[component().len()..];
    assert_eq!(embedded(&[&moved[..], section].concat()), Err(ClaimsError::Changed { issuer }));
}

#[test]
fn garbage_is_an_error_and_no_more() {
    // Goal: nothing that may come over a link panics or hangs. Method: tokens and components cut and flipped everywhere.
    for token in
        [&b""[..], b"a.b", b"a.b.c", b"..", b"e30.e30.e30", &[0xff; 9], &vec![b'.'; TOKEN_BYTES_MAX + 1]]
    {
        let mut wasm = component();
        custom(&mut wasm, "jwt", token);
        assert!(embedded(&wasm).is_err(), "{token:?}");
    }
    let signed = sign(&component(), &KeyPair::new_account(), none());
    for at in 0..signed.len() {
        assert!(!matches!(embedded(&signed[..at]), Ok(Some(_))));
        let mut flipped = signed.clone();
        flipped[at] ^= 0x80;
        let _ = embedded(&flipped);
    }
    assert!(matches!(embedded(b"hello"), Err(ClaimsError::Wasm(_))));
}
