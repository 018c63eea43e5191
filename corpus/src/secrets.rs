//! What in an address could be a credential. Addresses are kept in specifications, plans, rows and
//! logs, so one that holds a secret is refused before anybody writes it down.

/// Names of query parameters that sign or unlock something, in lower case.
const NAMES: [&str; 16] = [
    "sig",
    "auth",
    "authorization",
    "jwt",
    "sas",
    "hmac",
    "hdnts",
    "hdnea",
    "pwd",
    "passwd",
    "sessionid",
    "jsessionid",
    "googleaccessid",
    "key-pair-id",
    "code",
    "acct_key",
];
/// Whatever stands before these.
const ENDINGS: [&str; 10] = [
    "token",
    "signature",
    "secret",
    "password",
    "apikey",
    "api_key",
    "api-key",
    "accesskeyid",
    "accesskey",
    "credential",
];
/// Whatever follows these.
const BEGINNINGS: [&str; 4] = ["x-amz-", "x-goog-", "x-oss-", "x-cos-"];

/// Whether what follows the question mark in `address` holds a secret by the names it uses.
pub(crate) fn query_holds_secret(address: &str) -> bool {
    let Some((_, query)) = address.split_once('?') else {
        return false;
    };
    // Decoded, so that `%73ig=` is seen; by every sign that servers separate parameters with.
    query
        .split(['&', ';', '?', '#'])
        .flat_map(|pair| url::form_urlencoded::parse(pair.as_bytes()))
        .any(|(name, value)| is_secret(&name.to_ascii_lowercase(), &value))
}

fn is_secret(name: &str, value: &str) -> bool {
    if value.is_empty() {
        return false;
    }
    NAMES.contains(&name)
        || ENDINGS.iter().any(|end| name.ends_with(end))
        || BEGINNINGS.iter().any(|start| name.starts_with(start))
        // Keys of Google's interfaces; elsewhere `key` is a harmless word.
        || (name == "key" && value.starts_with("AIza"))
}

#[cfg(test)]
mod tests {
    use super::query_holds_secret;

    #[test]
    fn signatures_tokens_and_keys_are_seen() {
        for secret in [
            "https://h/a?sig=x",
            "https://h/a?b=1&SIG=x",
            "https://h/a?%73ig=x",
            "https://h/a?b=1;sig=x",
            "https://h/a?X-Amz-Security-Token=x",
            "https://h/a?X-Goog-Credential=x",
            "https://h/a?AWSAccessKeyId=x",
            "https://h/a?access_token=x",
            "https://h/a?api_key=x",
            "https://h/a?key=AIzaSyA",
            "https://h/a?Expires=1&Signature=x&Key-Pair-Id=y",
            "https://h/a?x=1#access_token=x",
            "s3://b/k?x-amz-signature=x",
            "a.pdf?sv=1&sig=x",
        ] {
            assert!(query_holds_secret(secret), "{secret}");
        }
        for harmless in [
            "https://h/a",
            "https://h/a?id=3&page=2",
            "https://h/a?key=folder/name.pdf",
            "https://h/a?sig=",
            "https://h/signature=1/token=2",
            "s3://b/what? really.pdf",
            "https://h/a?design=x&assign=y",
        ] {
            assert!(!query_holds_secret(harmless), "{harmless}");
        }
    }
}
