//! Answers: `{"success":bool,"message":string,"response":T?}`. Pure.

use serde::Serialize;

#[derive(Serialize)]
struct Envelope<'a, T> {
    success: bool,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<T>,
}

/// It is done.
pub fn success(message: &str) -> Vec<u8> {
    encode(&Envelope::<()> { success: true, message, response: None })
}

/// Here it is.
pub fn response<T: Serialize>(response: T) -> Vec<u8> {
    encode(&Envelope { success: true, message: "", response: Some(response) })
}

/// It is not done.
pub fn failure(message: &str) -> Vec<u8> {
    encode(&Envelope::<()> { success: false, message, response: None })
}

fn encode<T: Serialize>(envelope: &T) -> Vec<u8> {
    serde_json::to_vec(envelope).expect("structs, lists and maps with keys of text are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_these_bytes() {
        // Goal: section 1.2. Method: the three of them, with a quote in a message.
        let text = |bytes| String::from_utf8(bytes).unwrap();
        assert_eq!(text(success("")), r#"{"success":true,"message":""}"#);
        assert_eq!(text(response([1])), r#"{"success":true,"message":"","response":[1]}"#);
        assert_eq!(text(failure("no \"x\"")), r#"{"success":false,"message":"no \"x\""}"#);
    }
}
