//! Google Pub/Sub push. In: the body of a push, one message. Out: its lines and its id. A message may also come unwrapped; then
//! it is a body like any other. Source: Google Cloud, "Push subscriptions", "Message format".

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;

use super::body;
use super::content::{ContentError, Unpacking};
use super::inflate::{Coding, is_gzip};
use super::lines::Lines;

#[derive(Deserialize)]
struct Push<'b> {
    #[serde(borrow)]
    message: Message<'b>,
}

/// Some fields come in both spellings at once.
#[derive(Deserialize)]
struct Message<'b> {
    #[serde(borrow, default)]
    data: Cow<'b, str>,
    #[serde(rename = "messageId", borrow, default)]
    id: Cow<'b, str>,
}

/// Reads a push; gives the message's id.
pub(super) fn read(body: &Bytes, unpacking: &mut Unpacking<'_>, into: &mut Lines) -> Result<String, ContentError> {
    let Push { message } = serde_json::from_slice(body)?;
    let data = unpacking.base64(&message.data)?;
    let data = if is_gzip(&data) { unpacking.inflate(Coding::Gzip, data)? } else { data };
    body::read(&data, false, into)?;
    Ok(message.id.into_owned())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use crate::intake::content::Protocol;
    use crate::intake::content::tests::{check, refused};

    #[test]
    fn a_message_holds_a_record() {
        let entry = r#"{"insertId":"x","httpRequest":{"requestUrl":"http://a/"}}"#;
        let push = |data: &str| {
            format!(
                r#"{{"deliveryAttempt":2,"message":{{"attributes":{{"k":"v"}},"data":"{}","messageId":"1","message_id":"1"}},"subscription":"s"}}"#,
                STANDARD.encode(data)
            )
        };
        check(Protocol::PubSub, push(entry).as_bytes(), &[entry]);
        check(Protocol::PubSub, push("a plain line\n").as_bytes(), &["a plain line"]);
        check(Protocol::PubSub, br#"{"message":{"attributes":{"k":"v"},"messageId":"1"}}"#, &[]);
        refused(Protocol::PubSub, br#"{"subscription":"s"}"#, "message");
        refused(Protocol::PubSub, br#"{"message":{"data":"%%"}}"#, "base64");
    }
}
