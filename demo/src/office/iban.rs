//! IBAN check digits (ISO 7064, mod 97-10): invented accounts that still look and check like real ones.

/// The IBAN of an account at a bank.
#[must_use]
pub(super) fn iban(country: &str, account: &str) -> String {
    let check = 98 - remainder(&format!("{account}{country}00")).unwrap_or(0);
    format!("{country}{check:02}{account}")
}

/// Whether the check digits fit.
#[must_use]
pub fn is_iban(text: &str) -> bool {
    let length = (15..=34).contains(&text.len()) && text.is_ascii();
    length && text[..2].bytes().all(|b| b.is_ascii_uppercase()) && {
        let (head, account) = text.split_at(4);
        remainder(&format!("{account}{head}")) == Some(1)
    }
}

fn remainder(rearranged: &str) -> Option<u32> {
    rearranged.chars().try_fold(0, |sum, c| {
        let digit = c.to_digit(36).filter(|_| !c.is_ascii_lowercase())?;
        Some((sum * if digit > 9 { 100 } else { 10 } + digit) % 97)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digits() {
        // The example of the IBAN registry.
        assert!(is_iban("DE89370400440532013000"));
        assert!(!is_iban("DE89370400440532013001"));
        assert!(!is_iban("hello"));
        assert_eq!(iban("DE", "370400440532013000"), "DE89370400440532013000");
    }
}
