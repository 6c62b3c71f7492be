//! The URIs by which a client says where output goes: `file:///PATH`, `binary:///PATH?KEY=VALUE&...`.

/// The path and the query's pairs, decoded; `None`: it is not valid.
pub fn parse(rest: &str) -> Option<(String, Vec<(String, String)>)> {
    let rest = rest.split('#').next().unwrap_or_default();
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let pair = |part: &str| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        Some((decode(key, true)?, decode(value, true)?))
    };
    let pairs: Option<Vec<_>> = query.split('&').filter(|part| !part.is_empty()).map(pair).collect();
    Some((decode(path, false)?, pairs?))
}

fn decode(text: &str, in_query: bool) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?].map(|digit| char::from(digit).to_digit(16));
                u8::try_from(digits[0]? * 16 + digits[1]?).ok()?
            }
            b'+' if in_query => b' ',
            other => other,
        });
    }
    // No path and no argument can hold it.
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_encoded_is_decoded_once() {
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        for (rest, path, pairs) in [
            ("/a/b", "/a/b", vec![]),
            ("/a%20b+c#d?e", "/a b+c", vec![]),
            ("/b?k=v+w&x=%2526%3D&lone", "/b", vec![pair("k", "v w"), pair("x", "%26="), pair("lone", "")]),
            ("/b?a=1=2", "/b", vec![pair("a", "1=2")]),
        ] {
            assert_eq!(parse(rest), Some((path.to_owned(), pairs)), "{rest}");
        }
        for wrong in ["/a%", "/a%2", "/a%zz", "/a%00", "/a?b=%ff", "/a%+1"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
