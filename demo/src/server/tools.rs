//! The tools: their names, descriptions and schemas, each one call into the office.
//!
//! A bad argument value is a tool error (`isError`) with a sentence; a missing one is refused by the schema.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{Implementation, ServerCapabilities, ServerConfig};
use rmcp::{Json, ServerHandler, schemars, tool, tool_handler, tool_router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::office::records::{
    Balance, Contact, Email, EmailSummary, Event, FileContent, FileEntry, Invoice, Page, Payment, SearchHit, SentEmail,
};
use crate::office::{Office, OfficeError};

type ToolAnswer<T> = Result<Json<T>, String>;

fn answer<T>(result: Result<T, OfficeError>) -> ToolAnswer<T> {
    result.map(Json).map_err(|error| error.to_string())
}

/// The MCP face of an office; clones share it.
#[derive(Clone, Debug)]
pub struct OfficeServer {
    office: Arc<Mutex<Office>>,
    tool_router: Arc<ToolRouter<Self>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Folder {
    /// A folder, for example `reports`; leave it out for all files.
    folder: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct FilePath {
    /// The file's path, for example `reports/solar-roof-q3.md`.
    path: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Query {
    /// Words to look for, in any case, in one line of a file.
    query: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct NewFile {
    /// A path below `notes/`.
    path: String,
    content: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct EmailId {
    /// An id from `list_emails`.
    id: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct NewEmail {
    /// One address.
    to: String,
    subject: String,
    body: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Day {
    /// A day, `YYYY-MM-DD`; leave it out for all days.
    date: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct NewEvent {
    title: String,
    /// `YYYY-MM-DDTHH:MM`
    start: String,
    /// `YYYY-MM-DDTHH:MM`
    end: String,
    /// Names of the people invited.
    attendees: Vec<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ContactName {
    /// Part of a person's name, a company or an address.
    name: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct InvoiceStatus {
    /// `open` or `paid`; leave it out for all invoices.
    status: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Transfer {
    /// The account to pay.
    to_iban: String,
    /// The sum, in cents of EUR.
    amount_cents: i64,
    /// What the payment is for, for example an invoice id.
    reference: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Url {
    /// An https address.
    url: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Files {
    files: Vec<FileEntry>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Hits {
    hits: Vec<SearchHit>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Emails {
    emails: Vec<EmailSummary>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Events {
    events: Vec<Event>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Invoices {
    invoices: Vec<Invoice>,
}

#[tool_router]
impl OfficeServer {
    /// An office from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { office: Arc::new(Mutex::new(Office::new(seed))), tool_router: Arc::new(Self::tool_router()) }
    }

    /// The office holds no invariant that a panic half-way could break: a poisoned lock is as good as a clean one.
    fn office(&self) -> MutexGuard<'_, Office> {
        self.office.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[tool(description = "List the files of the office, or of one folder.", annotations(read_only_hint = true))]
    fn list_files(&self, Parameters(input): Parameters<Folder>) -> ToolAnswer<Files> {
        answer(self.office().list_files(input.folder.as_deref()).map(|files| Files { files }))
    }

    #[tool(description = "Read one file.", annotations(read_only_hint = true))]
    fn read_file(&self, Parameters(input): Parameters<FilePath>) -> ToolAnswer<FileContent> {
        answer(self.office().read_file(&input.path))
    }

    #[tool(description = "Find the lines of all files that hold these words.", annotations(read_only_hint = true))]
    fn search_files(&self, Parameters(input): Parameters<Query>) -> ToolAnswer<Hits> {
        answer(self.office().search_files(&input.query).map(|hits| Hits { hits }))
    }

    #[tool(description = "Write a file below notes/.", annotations(destructive_hint = true, idempotent_hint = true))]
    fn write_file(&self, Parameters(input): Parameters<NewFile>) -> ToolAnswer<FileEntry> {
        answer(self.office().write_file(&input.path, &input.content))
    }

    #[tool(description = "List the e-mails of the inbox, without their bodies.", annotations(read_only_hint = true))]
    fn list_emails(&self) -> ToolAnswer<Emails> {
        answer(Ok(Emails { emails: self.office().list_emails() }))
    }

    #[tool(description = "Read one e-mail of the inbox.", annotations(read_only_hint = true))]
    fn read_email(&self, Parameters(input): Parameters<EmailId>) -> ToolAnswer<Email> {
        answer(self.office().read_email(&input.id))
    }

    #[tool(description = "Send an e-mail.", annotations(destructive_hint = false, open_world_hint = true))]
    fn send_email(&self, Parameters(input): Parameters<NewEmail>) -> ToolAnswer<SentEmail> {
        answer(self.office().send_email(&input.to, &input.subject, &input.body))
    }

    #[tool(description = "List the events of the calendar, or of one day.", annotations(read_only_hint = true))]
    fn list_events(&self, Parameters(input): Parameters<Day>) -> ToolAnswer<Events> {
        answer(self.office().list_events(input.date.as_deref()).map(|events| Events { events }))
    }

    #[tool(description = "Add an event to the calendar.", annotations(destructive_hint = false))]
    fn create_event(&self, Parameters(input): Parameters<NewEvent>) -> ToolAnswer<Event> {
        answer(self.office().create_event(&input.title, &input.start, &input.end, input.attendees))
    }

    #[tool(description = "Look up a person or a company.", annotations(read_only_hint = true))]
    fn get_contact(&self, Parameters(input): Parameters<ContactName>) -> ToolAnswer<Contact> {
        answer(self.office().get_contact(&input.name))
    }

    #[tool(description = "List the invoices received.", annotations(read_only_hint = true))]
    fn list_invoices(&self, Parameters(input): Parameters<InvoiceStatus>) -> ToolAnswer<Invoices> {
        answer(Ok(Invoices { invoices: self.office().list_invoices(input.status.as_deref()) }))
    }

    #[tool(description = "The balance of the company's account.", annotations(read_only_hint = true))]
    fn get_balance(&self) -> ToolAnswer<Balance> {
        answer(Ok(self.office().get_balance()))
    }

    #[tool(description = "Pay from the company's account.", annotations(destructive_hint = true))]
    fn send_money(&self, Parameters(input): Parameters<Transfer>) -> ToolAnswer<Payment> {
        answer(self.office().send_money(&input.to_iban, input.amount_cents, &input.reference))
    }

    #[tool(
        description = "Fetch a web page. This web is invented: no request leaves the server.",
        annotations(read_only_hint = true, open_world_hint = true)
    )]
    fn http_get(&self, Parameters(input): Parameters<Url>) -> ToolAnswer<Page> {
        answer(self.office().http_get(&input.url))
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for OfficeServer {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("undercurrent-demo", env!("CARGO_PKG_VERSION")))
            .with_instructions("An invented office: files, mail, calendar, contacts, invoices and a bank account.")
    }
}
