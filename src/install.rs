//! `install` and `uninstall`: servers in the files of MCP clients run through Undercurrent, or as they did before.
//!
//! Invariant: outside the entries it changes, a file stays as it is, byte for byte, comments and all; what cannot be
//! understood is left alone and said. What an entry was is read from the entry itself, so an uninstall needs no memory;
//! only a URL that was replaced is remembered, in a file beside (`originals`). Not here: printing (`app`).

mod clients;
mod document;
mod entry;
mod file;
mod originals;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use self::clients::{Client, Os, Surroundings};
use self::clients::{Location, locations};
use self::document::{Document, Edit, Server};
use self::entry::{Entry, Kind, Left};
use self::file::ConfigFile;
use self::originals::Originals;
use crate::config::mcp_json::upstream_name;

/// What is to be done.
#[derive(Debug)]
pub struct Options<'a> {
    pub clients: Vec<Client>,
    /// Servers by the names that clients have for them; empty: all.
    pub names: Vec<String>,
    /// Change nothing, say what would be changed.
    pub dry_run: bool,
    pub surroundings: Surroundings,
    pub action: Action<'a>,
}

#[derive(Debug)]
pub enum Action<'a> {
    Install(Install<'a>),
    Uninstall,
}

/// What entries become.
#[derive(Debug)]
pub struct Install<'a> {
    /// This program, for files of this user: clients started from a desktop do not know the shell's PATH.
    pub program: String,
    /// The same for files that a project shares.
    pub shared_program: String,
    /// DATA for every wrap, if it is named.
    pub data: Option<String>,
    /// Where HTTP entries are to go.
    pub gateway: Option<Gateway<'a>>,
}

/// A running gateway, and a way to ask it.
pub struct Gateway<'a> {
    /// Without a slash at its end.
    pub url: String,
    /// Whether it serves an upstream of this name; an error says why not.
    pub serves: &'a dyn Fn(&str) -> Result<(), String>,
}

impl std::fmt::Debug for Gateway<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What was done, file by file.
#[derive(Debug, Default)]
pub struct Report {
    pub files: Vec<FileReport>,
    /// Places where clients would have a file, and none is.
    pub absent: Vec<PathBuf>,
    /// Names that were asked for, and that no file has.
    pub unknown_names: Vec<String>,
}

#[derive(Debug)]
pub struct FileReport {
    pub client: Client,
    pub path: PathBuf,
    /// A project's, which others may use too.
    pub shared: bool,
    pub servers: Vec<ServerReport>,
    /// `None`: nothing to change.
    pub change: Option<Change>,
    pub error: Option<InstallError>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerReport {
    pub name: String,
    pub outcome: Outcome,
}

/// What became of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It changes, to this.
    Changed(String),
    /// It is as it should be already: wrapped, or by itself.
    Already,
    /// It stays as it is, for this reason.
    Left(String),
}

#[derive(Debug)]
pub struct Change {
    pub before: String,
    pub after: String,
    /// Where the file was copied to before its first change.
    pub backup: PathBuf,
}

/// Why a file is left alone.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("{attempt} `{}`: {source}", path.display())]
    Io { attempt: &'static str, path: PathBuf, source: std::io::Error },
    #[error("`{}` is not UTF-8 text: left alone", path.display())]
    NotText { path: PathBuf },
    #[error("{}:{line}:{column}: {problem}: left alone; mend it, then run this again", path.display())]
    Syntax { path: PathBuf, line: usize, column: usize, problem: String },
    #[error("`{}` changed while it was being read: run this again, best with its client closed", path.display())]
    Changed { path: PathBuf },
}

/// Does it. Files are independent: what is wrong with one does not stop the others.
#[must_use]
pub fn run(options: &Options<'_>) -> Report {
    let mut report = Report { unknown_names: options.names.clone(), ..Report::default() };
    for location in locations(&options.clients, &options.surroundings) {
        let mut found = FileReport {
            client: location.client,
            path: location.path.clone(),
            shared: location.shared,
            servers: Vec::new(),
            change: None,
            error: None,
        };
        match one_file(options, &location, &mut found) {
            Ok(true) => {
                let seen = |name: &String| found.servers.iter().any(|server| server.name == *name);
                report.unknown_names.retain(|name| !seen(name));
                report.files.push(found);
            }
            Ok(false) => report.absent.push(location.path),
            Err(error) => {
                found.error = Some(error);
                report.files.push(found);
            }
        }
    }
    report
}

/// `false`: there is no such file.
fn one_file(options: &Options<'_>, location: &Location, report: &mut FileReport) -> Result<bool, InstallError> {
    let Some(file) = ConfigFile::read(&location.path)? else { return Ok(false) };
    let mut originals = Originals::read(&file)?;
    let document = Document::parse(&location.path, file.text())?;
    let mut edits = Vec::new();
    let mut taken = BTreeMap::new();
    for server in document.servers(location.servers) {
        if !options.names.is_empty() && !options.names.contains(&server.name) {
            continue;
        }
        let (outcome, mut change) = match &options.action {
            Action::Install(install) => install_one(install, location, &server, &mut originals, &mut taken),
            Action::Uninstall => uninstall_one(&server, &mut originals),
        };
        edits.append(&mut change);
        report.servers.push(ServerReport { name: server.name.clone(), outcome });
    }
    if edits.is_empty() {
        return Ok(true);
    }
    let after = document::apply(file.text(), edits);
    let change = Change { before: file.text().to_owned(), after, backup: file.backup_path() };
    if !options.dry_run {
        // Remembered first: a URL that nobody remembers could not be put back.
        originals.before(&file)?;
        file.replace(&change.after)?;
        originals.after(&file)?;
    }
    report.change = Some(change);
    Ok(true)
}

type Done = (Outcome, Vec<Edit>);

fn left(reason: impl Into<String>) -> Done {
    (Outcome::Left(reason.into()), Vec::new())
}

fn install_one(
    install: &Install<'_>,
    location: &Location,
    server: &Server<'_>,
    originals: &mut Originals,
    taken: &mut BTreeMap<(String, String), String>,
) -> Done {
    let Some(name) = upstream_name(&server.name) else { return left("its name has no letter or digit; rename it") };
    if let Some(other) = taken.insert((server.around.clone(), name.clone()), server.name.clone()) {
        return left(format!("its name becomes `{name}`, as that of `{other}` does; rename one of them"));
    }
    let entry = match Entry::read(server) {
        Ok(entry) => entry,
        Err(Left(reason)) => return left(reason),
    };
    match &entry.kind {
        Kind::Wrapped(_) => (Outcome::Already, Vec::new()),
        Kind::Command(command) => {
            let program = if location.shared { &install.shared_program } else { &install.program };
            let edits = entry.wrap(command, program, &name, install.data.as_deref());
            (Outcome::Changed(format!("runs through `undercurrent wrap --name {name}`")), edits)
        }
        Kind::Url(url) => {
            let Some(gateway) = &install.gateway else {
                return left("reached by URL: name a gateway that serves it with --gateway URL");
            };
            let to = format!("{}/mcp/{name}", gateway.url);
            if url.value == to {
                return (Outcome::Already, Vec::new());
            }
            if let Err(reason) = (gateway.serves)(&name) {
                return left(format!("the gateway does not serve `{name}`: {reason}"));
            }
            originals.remember(&server.key(), url.literal, &to);
            (Outcome::Changed(format!("goes to {to}")), vec![Edit::replace(url.range.clone(), document::quoted(&to))])
        }
    }
}

fn uninstall_one(server: &Server<'_>, originals: &mut Originals) -> Done {
    let entry = match Entry::read(server) {
        Ok(entry) => entry,
        Err(_) => return (Outcome::Already, Vec::new()),
    };
    match &entry.kind {
        Kind::Wrapped(wrapped) => match entry.unwrap(wrapped) {
            Ok(edits) => (Outcome::Changed("runs by itself again".into()), edits),
            Err(Left(reason)) => left(reason),
        },
        Kind::Command(_) => (Outcome::Already, Vec::new()),
        Kind::Url(url) => match originals.forget(&server.key(), &url.value) {
            Some(literal) => {
                (Outcome::Changed("goes to its own URL again".into()), vec![Edit::replace(url.range.clone(), literal)])
            }
            None => (Outcome::Already, Vec::new()),
        },
    }
}
