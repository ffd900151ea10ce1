//! Who may use the gateway: bearer keys by their hashes, and the issuer whose tokens count.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jsonwebtoken::Algorithm;

use super::error::ConfigError;
use super::raw::RawAuth;
use super::resolve::{Check, quoted};

/// How callers are known. Without keys and issuer, nobody needs to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    /// Subjects, and what their keys hash to.
    pub keys: BTreeMap<String, KeyHash>,
    pub issuer: Option<Issuer>,
}

/// SHA-256 of a bearer key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash(pub [u8; 32]);

/// Whose JWTs count, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Its identifier, `iss`, to the letter.
    pub url: String,
    /// One of them must be in `aud`.
    pub audiences: Vec<String>,
    /// Where its keys are; `None`: where its metadata says.
    pub jwks_url: Option<String>,
    pub algorithms: Vec<Algorithm>,
    /// All of them must be granted.
    pub scopes: Vec<String>,
}

/// The text of a key's hash is not `sha256:` and 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the hash of a key")]
pub struct NotKeyHash;

impl FromStr for KeyHash {
    type Err = NotKeyHash;

    fn from_str(text: &str) -> Result<Self, NotKeyHash> {
        let digits = text.strip_prefix("sha256:").ok_or(NotKeyHash)?;
        let pairs = digits.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
            pair.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u8::from_str_radix(pair, 16).ok())?
        });
        let bytes: Vec<u8> = pairs.collect::<Option<_>>().ok_or(NotKeyHash)?;
        Ok(Self(bytes.try_into().map_err(|_| NotKeyHash)?))
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    /// A weak key can be guessed from its hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

/// Asymmetric ones: who can verify a token must not be able to make one.
const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

pub(super) fn resolve(check: &Check<'_>, raw: &RawAuth) -> Result<Auth, ConfigError> {
    let keys = raw.keys.iter().map(|(subject, text)| {
        let remedy = "make one with `undercurrent key NAME`: it prints the line for this place";
        let hash = text.parse().map_err(|error: NotKeyHash| {
            check.wrong("auth.keys", format!("{subject} = (not shown)"), &error.to_string(), remedy)
        })?;
        if subject.is_empty() || subject.len() > 256 || subject.chars().any(char::is_control) {
            let remedy = "give 1 to 256 bytes without control characters";
            return Err(check.wrong("auth.keys", quoted(subject), "not a name", remedy));
        }
        Ok((subject.clone(), hash))
    });
    Ok(Auth { keys: keys.collect::<Result<_, _>>()?, issuer: issuer(check, raw)? })
}

fn issuer(check: &Check<'_>, raw: &RawAuth) -> Result<Option<Issuer>, ConfigError> {
    if raw.issuer.is_empty() {
        let unused = [
            ("auth.audiences", !raw.audiences.is_empty()),
            ("auth.jwks_url", !raw.jwks_url.is_empty()),
            ("auth.scopes", !raw.scopes.is_empty()),
        ];
        return match unused.iter().find(|(_, set)| *set) {
            Some((key, _)) => Err(check.wrong(
                key,
                "(set)",
                "there is no auth.issuer whose tokens it could be about",
                "name the issuer",
            )),
            None => Ok(None),
        };
    }
    check.url("auth.issuer", &raw.issuer, "give the issuer's identifier, such as \"https://login.example.com\"")?;
    if !raw.jwks_url.is_empty() {
        check.url("auth.jwks_url", &raw.jwks_url, "give the URL of its key set, or leave it empty")?;
    }
    if raw.audiences.is_empty() {
        let problem = "without an audience, tokens for anybody would count";
        let remedy =
            "give what the issuer writes into `aud` for this gateway, such as [\"https://mcp.example.com/mcp\"]";
        return Err(check.wrong("auth.audiences", "[]", problem, remedy));
    }
    let algorithm = |text: &String| {
        ALGORITHMS.iter().find(|(name, _)| name == text).map(|(_, algorithm)| *algorithm).ok_or_else(|| {
            let remedy = format!("give some of {}", ALGORITHMS.map(|(name, _)| name).join(", "));
            check.wrong("auth.algorithms", quoted(text), "not an algorithm that is allowed here", remedy)
        })
    };
    let algorithms: Vec<_> = raw.algorithms.iter().map(algorithm).collect::<Result<_, _>>()?;
    if algorithms.is_empty() {
        return Err(check.wrong("auth.algorithms", "[]", "no token could be verified", "name at least one"));
    }
    Ok(Some(Issuer {
        url: raw.issuer.clone(),
        audiences: raw.audiences.clone(),
        jwks_url: (!raw.jwks_url.is_empty()).then(|| raw.jwks_url.clone()),
        algorithms,
        scopes: raw.scopes.clone(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_as_it_is_written() {
        let text = format!("sha256:{}", "0af1".repeat(16));
        let hash: KeyHash = text.parse().unwrap();
        assert_eq!(hash.to_string(), text);
        for wrong in ["", "sha256:", &text[..70], &format!("{text}0"), &text.replace("0a", "+a")] {
            assert_eq!(wrong.parse::<KeyHash>(), Err(NotKeyHash), "{wrong}");
        }
    }
}
