//! A small office in memory: documents, mail, calendar, contacts, invoices and a bank account.
//!
//! It is not a store: nothing outlives the process, seeded records never change, and what callers add is bounded, so
//! one office can serve any number of clients for any time. `server` puts it behind MCP tools.

mod iban;
pub mod poison;
pub mod records;
mod seed;

use std::collections::{BTreeMap, VecDeque};

pub use iban::is_iban;
pub use seed::TOPICS;

use records::{
    Balance, Contact, Email, EmailSummary, Event, FileContent, FileEntry, Invoice, Page, Payment, SearchHit, SentEmail,
};
use seed::Seeded;

const CONTENT_BYTES_MAX: usize = 64 * 1024;
const HITS_MAX: usize = 10;
const KEPT_MAX: usize = 64;
const PAYMENT_CENTS_MAX: i64 = 2_000_000;
const OPENING_CENTS: i64 = 250_000_000;
const ACCOUNT: &str = "DE85500105175407324931";

/// Why the office could not do what was asked; the text is for the caller.
#[derive(Debug, thiserror::Error)]
pub enum OfficeError {
    #[error("no such {kind}: {name}")]
    Unknown { kind: &'static str, name: String },
    #[error("`{path}` is read-only; write below notes/")]
    ReadOnly { path: String },
    #[error("{field} is not valid: {reason}")]
    Invalid { field: &'static str, reason: String },
}

fn invalid(field: &'static str, reason: impl Into<String>) -> OfficeError {
    OfficeError::Invalid { field, reason: reason.into() }
}

type Answer<T> = Result<T, OfficeError>;

/// The office and what its callers did so far.
#[derive(Debug)]
pub struct Office {
    seeded: Seeded,
    notes: BTreeMap<String, String>,
    /// Names of the notes, oldest first: the bound drops from the front.
    note_order: VecDeque<String>,
    events: VecDeque<Event>,
    balance_cents: i64,
    actions: u64,
}

impl Office {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seeded: seed::seeded(seed),
            notes: BTreeMap::new(),
            note_order: VecDeque::new(),
            events: VecDeque::new(),
            balance_cents: OPENING_CENTS,
            actions: 0,
        }
    }

    fn files(&self) -> impl Iterator<Item = (&String, &String)> {
        self.seeded.files.iter().chain(&self.notes)
    }

    fn next_id(&mut self, prefix: &str) -> String {
        self.actions += 1;
        format!("{prefix}-{:06}", self.actions)
    }

    pub fn list_files(&self, folder: Option<&str>) -> Answer<Vec<FileEntry>> {
        let prefix = folder.map(|f| format!("{}/", f.trim_matches('/'))).filter(|p| p != "/").unwrap_or_default();
        let entries: Vec<FileEntry> =
            self.files().filter(|(path, _)| path.starts_with(&prefix)).map(|(path, text)| entry(path, text)).collect();
        if entries.is_empty() { Err(unknown("folder", &prefix)) } else { Ok(entries) }
    }

    pub fn read_file(&self, path: &str) -> Answer<FileContent> {
        let content = self.seeded.files.get(path).or_else(|| self.notes.get(path));
        let content = content.ok_or_else(|| unknown("file", path))?.clone();
        Ok(FileContent { path: path.to_owned(), content })
    }

    pub fn search_files(&self, query: &str) -> Answer<Vec<SearchHit>> {
        let words = query.trim().to_lowercase();
        if words.len() < 3 {
            return Err(invalid("query", "give at least three characters"));
        }
        let lines = self.seeded.files.iter().flat_map(|(path, text)| {
            text.lines().enumerate().map(move |(line, text)| SearchHit {
                path: path.clone(),
                line: line + 1,
                text: text.to_owned(),
            })
        });
        Ok(lines.filter(|hit| hit.text.to_lowercase().contains(&words)).take(HITS_MAX).collect())
    }

    pub fn write_file(&mut self, path: &str, content: &str) -> Answer<FileEntry> {
        if !path.starts_with("notes/") || path.len() > 120 || path.contains("..") {
            return Err(OfficeError::ReadOnly { path: path.chars().take(120).collect() });
        }
        if content.len() > CONTENT_BYTES_MAX {
            return Err(invalid("content", format!("longer than {CONTENT_BYTES_MAX} bytes")));
        }
        if self.notes.insert(path.to_owned(), content.to_owned()).is_none() {
            self.note_order.push_back(path.to_owned());
        }
        if self.note_order.len() > KEPT_MAX
            && let Some(oldest) = self.note_order.pop_front()
        {
            self.notes.remove(&oldest);
        }
        Ok(entry(path, content))
    }

    #[must_use]
    pub fn list_emails(&self) -> Vec<EmailSummary> {
        self.seeded.emails.values().map(Email::summary).collect()
    }

    pub fn read_email(&self, id: &str) -> Answer<Email> {
        self.seeded.emails.get(id).cloned().ok_or_else(|| unknown("e-mail", id))
    }

    pub fn send_email(&mut self, to: &str, subject: &str, body: &str) -> Answer<SentEmail> {
        let well_formed = to.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.'));
        if !well_formed || to.contains(char::is_whitespace) {
            return Err(invalid("to", "give one address, as in name@host.example"));
        }
        if subject.trim().is_empty() || body.len() > CONTENT_BYTES_MAX {
            return Err(invalid("subject", "an e-mail needs a subject and a body of at most 64 KiB"));
        }
        let id = self.next_id("sent");
        Ok(SentEmail { id, to: to.to_owned(), subject: subject.to_owned(), status: "queued".to_owned() })
    }

    pub fn list_events(&self, date: Option<&str>) -> Answer<Vec<Event>> {
        if let Some(date) = date {
            check_date(date)?;
        }
        let all = self.seeded.events.iter().chain(&self.events);
        Ok(all.filter(|event| date.is_none_or(|date| event.start.starts_with(date))).cloned().collect())
    }

    pub fn create_event(&mut self, title: &str, start: &str, end: &str, attendees: Vec<String>) -> Answer<Event> {
        check_date(start)?;
        check_date(end)?;
        if end <= start {
            return Err(invalid("end", "an event ends after it starts"));
        }
        if attendees.len() > 20 || title.len() > 200 {
            return Err(invalid("attendees", "at most 20 attendees and a title of at most 200 bytes"));
        }
        let event = Event {
            id: self.next_id("event"),
            title: title.to_owned(),
            start: start.to_owned(),
            end: end.to_owned(),
            attendees,
            agenda: None,
        };
        if self.events.len() == KEPT_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event.clone());
        Ok(event)
    }

    pub fn get_contact(&self, name: &str) -> Answer<Contact> {
        let wanted = name.trim().to_lowercase();
        let holds = |text: &String| text.to_lowercase().contains(&wanted);
        let found = self.seeded.contacts.iter().find(|c| [&c.name, &c.company, &c.email].into_iter().any(holds));
        found.filter(|_| !wanted.is_empty()).cloned().ok_or_else(|| unknown("contact", name))
    }

    #[must_use]
    pub fn list_invoices(&self, status: Option<&str>) -> Vec<Invoice> {
        self.seeded.invoices.iter().filter(|i| status.is_none_or(|status| i.status == status)).cloned().collect()
    }

    #[must_use]
    pub fn get_balance(&self) -> Balance {
        Balance { iban: ACCOUNT.to_owned(), balance_cents: self.balance_cents, currency: "EUR".to_owned() }
    }

    pub fn send_money(&mut self, to_iban: &str, amount_cents: i64, reference: &str) -> Answer<Payment> {
        if !is_iban(to_iban) {
            return Err(invalid("to_iban", "its check digits do not fit"));
        }
        if !(1..=PAYMENT_CENTS_MAX).contains(&amount_cents) {
            return Err(invalid("amount_cents", format!("one payment moves 1 to {PAYMENT_CENTS_MAX} cents")));
        }
        if self.balance_cents < amount_cents {
            // The parent company's nightly sweep: the demo account never runs dry.
            self.balance_cents = OPENING_CENTS;
        }
        self.balance_cents -= amount_cents;
        let id = self.next_id("pay");
        Ok(Payment {
            id,
            to_iban: to_iban.to_owned(),
            amount_cents,
            reference: reference.to_owned(),
            status: "executed".to_owned(),
        })
    }

    /// A page of the invented web: nothing leaves this process.
    pub fn http_get(&self, url: &str) -> Answer<Page> {
        let host = url.strip_prefix("https://").ok_or_else(|| invalid("url", "only https is reachable"))?;
        let host = host.split(['/', '?']).next().unwrap_or_default();
        if let Some(page) = self.seeded.pages.get(url) {
            return Ok(page.clone());
        }
        if host.ends_with(".example") && host != "wiki.meridian.example" {
            return Ok(Page { url: url.to_owned(), status: 200, body: "ok".to_owned() });
        }
        Err(unknown("page", url))
    }
}

fn unknown(kind: &'static str, name: &str) -> OfficeError {
    OfficeError::Unknown { kind, name: name.chars().take(120).collect() }
}

fn entry(path: &str, text: &str) -> FileEntry {
    FileEntry { path: path.to_owned(), size_bytes: text.len(), modified: "2026-11-20".to_owned() }
}

fn check_date(text: &str) -> Answer<()> {
    let date = text.as_bytes().get(..10).filter(|d| d.is_ascii());
    let fits = date.is_some_and(|d| {
        d.iter().enumerate().all(|(i, b)| if i == 4 || i == 7 { *b == b'-' } else { b.is_ascii_digit() })
    });
    if fits { Ok(()) } else { Err(invalid("date", "write it as 2026-11-23 or 2026-11-23T14:00")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_fixes_the_office() {
        let invoices = |seed| format!("{:?}", Office::new(seed).list_invoices(None));
        assert_eq!(invoices(3), invoices(3));
        assert_ne!(invoices(3), invoices(4));
    }

    #[test]
    fn every_poisoned_place_can_be_read_and_holds_an_order() {
        let office = Office::new(7);
        for place in poison::POISONED {
            let text = office.read_file(place).map(|f| f.content).or_else(|_| office.read_email(place).map(|m| m.body));
            assert!(poison::injected_order(&text.unwrap()).is_some(), "{place}");
        }
    }

    #[test]
    fn bad_input_is_refused_with_a_reason() {
        let mut office = Office::new(7);
        assert_eq!(office.read_file("nope").unwrap_err().to_string(), "no such file: nope");
        assert!(matches!(office.write_file("finance/payroll-2026.txt", ""), Err(OfficeError::ReadOnly { .. })));
        assert!(office.send_money("DE00", 5, "x").is_err());
        assert!(office.create_event("x", "2026-11-23T10:00", "2026-11-23T09:00", vec![]).is_err());
        assert!(office.send_email("nobody", "s", "b").is_err());
        assert!(office.list_events(Some("tomorrow")).is_err());
        assert!(office.http_get("http://wiki.meridian.example/").is_err());
    }

    #[test]
    fn what_callers_add_is_bounded() {
        let mut office = Office::new(7);
        for n in 0..200 {
            office.write_file(&format!("notes/{n}.md"), "x").unwrap();
            office.create_event("x", "2026-11-23T10:00", "2026-11-23T11:00", vec![]).unwrap();
        }
        assert_eq!(office.notes.len(), KEPT_MAX);
        assert_eq!(office.events.len(), KEPT_MAX);
    }

    #[test]
    fn every_event_and_invoice_names_a_document_that_exists() {
        let office = Office::new(7);
        for event in office.list_events(None).unwrap() {
            office.read_file(&event.agenda.unwrap()).unwrap();
        }
        for invoice in office.list_invoices(None) {
            office.read_file(&invoice.document).unwrap();
        }
    }
}
