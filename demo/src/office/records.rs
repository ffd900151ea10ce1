//! What the office holds, as tools return it: plain records with a JSON schema each.

use rmcp::schemars;
use schemars::JsonSchema;
use serde::Serialize;

/// A document's place and size.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct FileEntry {
    pub path: String,
    pub size_bytes: usize,
    pub modified: String,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct FileContent {
    pub path: String,
    pub content: String,
}

/// One line of one document that holds the words looked for.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SearchHit {
    pub path: String,
    pub line: usize,
    pub text: String,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct EmailSummary {
    pub id: String,
    pub from: String,
    pub subject: String,
    pub received: String,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Email {
    pub id: String,
    pub from: String,
    pub to: String,
    pub subject: String,
    pub received: String,
    pub body: String,
}

impl Email {
    #[must_use]
    pub fn summary(&self) -> EmailSummary {
        EmailSummary {
            id: self.id.clone(),
            from: self.from.clone(),
            subject: self.subject.clone(),
            received: self.received.clone(),
        }
    }
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SentEmail {
    pub id: String,
    pub to: String,
    pub subject: String,
    pub status: String,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Event {
    pub id: String,
    pub title: String,
    /// Local start, `YYYY-MM-DDTHH:MM`.
    pub start: String,
    pub end: String,
    pub attendees: Vec<String>,
    /// The document with the agenda, if there is one.
    pub agenda: Option<String>,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Contact {
    pub name: String,
    pub company: String,
    pub email: String,
    pub phone: String,
    /// Where this contact is paid, if it is.
    pub iban: Option<String>,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Invoice {
    pub id: String,
    pub vendor: String,
    pub amount_cents: i64,
    pub currency: String,
    pub due: String,
    pub status: String,
    pub document: String,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Balance {
    pub iban: String,
    pub balance_cents: i64,
    pub currency: String,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Payment {
    pub id: String,
    pub to_iban: String,
    pub amount_cents: i64,
    pub reference: String,
    pub status: String,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Page {
    pub url: String,
    pub status: u16,
    pub body: String,
}
