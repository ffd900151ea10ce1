//! Which files hold the MCP servers of which client, as the clients' documentation says, on each system.
//!
//! Claude Desktop: `claude_desktop_config.json`. Claude Code: `~/.claude.json` (servers of the user, and of one user in
//! one project), `.mcp.json` (a project's). Cursor: `~/.cursor/mcp.json`, `.cursor/mcp.json`. Visual Studio Code:
//! `mcp.json` of the user's profile, `.vscode/mcp.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::ValueEnum;

/// A program that keeps MCP servers in a file of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Client {
    ClaudeDesktop,
    ClaudeCode,
    Cursor,
    #[value(name = "vscode")]
    VsCode,
}

impl Client {
    pub const ALL: [Self; 4] = [Self::ClaudeDesktop, Self::ClaudeCode, Self::Cursor, Self::VsCode];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClaudeDesktop => "Claude Desktop",
            Self::ClaudeCode => "Claude Code",
            Self::Cursor => "Cursor",
            Self::VsCode => "VS Code",
        }
    }
}

/// Where programs keep what is a user's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Os {
    Linux,
    MacOs,
    Windows,
}

impl Os {
    /// That of this process. Other Unix systems do as Linux does.
    #[must_use]
    pub const fn current() -> Self {
        if cfg!(windows) {
            Self::Windows
        } else if cfg!(target_os = "macos") {
            Self::MacOs
        } else {
            Self::Linux
        }
    }
}

/// Whose files, and those of which project.
#[derive(Clone, Debug)]
pub struct Surroundings {
    pub os: Os,
    pub env: BTreeMap<String, String>,
    /// The project: the directory that the command was started in.
    pub project: PathBuf,
}

impl Surroundings {
    fn variable(&self, name: &str) -> Option<PathBuf> {
        self.env.get(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    fn home(&self) -> Option<PathBuf> {
        match self.os {
            Os::Windows => self.variable("USERPROFILE"),
            Os::Linux | Os::MacOs => self.variable("HOME"),
        }
    }

    /// Where programs keep settings: `%APPDATA%`, `~/Library/Application Support`, `~/.config`.
    fn settings(&self) -> Option<PathBuf> {
        match self.os {
            Os::Windows => self.variable("APPDATA"),
            Os::MacOs => self.home().map(|home| home.join("Library").join("Application Support")),
            // The XDG specification: a relative path there is to be ignored.
            Os::Linux => self
                .variable("XDG_CONFIG_HOME")
                .filter(|path| path.is_absolute())
                .or_else(|| self.home().map(|home| home.join(".config"))),
        }
    }
}

/// One step from an object to an object in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(&'static str),
    /// Each value of it.
    Each,
}

/// Ways to the objects that hold servers.
pub(super) type Ways = &'static [&'static [Step]];

const MCP_SERVERS: Ways = &[&[Step::Key("mcpServers")]];
const SERVERS: Ways = &[&[Step::Key("servers")]];
const CLAUDE_CODE: Ways = &[&[Step::Key("mcpServers")], &[Step::Key("projects"), Step::Each, Step::Key("mcpServers")]];

/// A file, and where in it servers are.
#[derive(Clone, Debug)]
pub(super) struct Location {
    pub(super) client: Client,
    pub(super) path: PathBuf,
    pub(super) servers: Ways,
    /// A project's file, which others may use too.
    pub(super) shared: bool,
}

/// All files of these clients, each once.
pub(super) fn locations(clients: &[Client], around: &Surroundings) -> Vec<Location> {
    let clients = if clients.is_empty() { &Client::ALL[..] } else { clients };
    let mut seen = BTreeSet::new();
    let all = clients.iter().flat_map(|client| of(*client, around));
    // A project in the home directory has the user's own files.
    all.filter(|location| seen.insert(resolved(&location.path))).collect()
}

fn resolved(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn of(client: Client, around: &Surroundings) -> Vec<Location> {
    let own = |path: Option<PathBuf>, servers| path.map(|path| Location { client, path, servers, shared: false });
    let shared =
        |path: &[&str], servers| Location { client, path: joined(&around.project, path), servers, shared: true };
    let below = |base: Option<PathBuf>, path: &[&str]| base.map(|base| joined(&base, path));
    match client {
        Client::ClaudeDesktop => {
            let path = below(around.settings(), &["Claude", "claude_desktop_config.json"]);
            own(path, MCP_SERVERS).into_iter().collect()
        }
        Client::ClaudeCode => {
            let base = around.variable("CLAUDE_CONFIG_DIR").or_else(|| around.home());
            let own = own(below(base, &[".claude.json"]), CLAUDE_CODE);
            own.into_iter().chain([shared(&[".mcp.json"], MCP_SERVERS)]).collect()
        }
        Client::Cursor => {
            let own = own(below(around.home(), &[".cursor", "mcp.json"]), MCP_SERVERS);
            own.into_iter().chain([shared(&[".cursor", "mcp.json"], MCP_SERVERS)]).collect()
        }
        Client::VsCode => {
            let profile = |product: &str| own(below(around.settings(), &[product, "User", "mcp.json"]), SERVERS);
            let own = ["Code", "Code - Insiders"].into_iter().filter_map(profile);
            own.chain([shared(&[".vscode", "mcp.json"], SERVERS)]).collect()
        }
    }
}

fn joined(base: &Path, path: &[&str]) -> PathBuf {
    path.iter().fold(base.to_owned(), |path, part| path.join(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(os: Os, env: &[(&str, &str)]) -> Vec<String> {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let around = Surroundings { os, env, project: "/project".into() };
        locations(&[], &around).iter().map(|location| location.path.display().to_string()).collect()
    }

    #[test]
    fn files_are_where_the_clients_say() {
        let shared = ["/project/.mcp.json", "/project/.cursor/mcp.json", "/project/.vscode/mcp.json"];
        let check = |os, env: &[(&str, &str)], own: [&str; 5]| {
            let [desktop, code, cursor, vscode, insiders] = own;
            assert_eq!(paths(os, env), [desktop, code, shared[0], cursor, shared[1], vscode, insiders, shared[2]]);
        };
        check(
            Os::Linux,
            &[("HOME", "/home/me")],
            [
                "/home/me/.config/Claude/claude_desktop_config.json",
                "/home/me/.claude.json",
                "/home/me/.cursor/mcp.json",
                "/home/me/.config/Code/User/mcp.json",
                "/home/me/.config/Code - Insiders/User/mcp.json",
            ],
        );
        check(
            Os::MacOs,
            &[("HOME", "/Users/me"), ("CLAUDE_CONFIG_DIR", "/else")],
            [
                "/Users/me/Library/Application Support/Claude/claude_desktop_config.json",
                "/else/.claude.json",
                "/Users/me/.cursor/mcp.json",
                "/Users/me/Library/Application Support/Code/User/mcp.json",
                "/Users/me/Library/Application Support/Code - Insiders/User/mcp.json",
            ],
        );
        let windows = paths(Os::Windows, &[("USERPROFILE", "/U/me"), ("APPDATA", "/U/me/AppData/Roaming")]);
        assert_eq!(windows[0], "/U/me/AppData/Roaming/Claude/claude_desktop_config.json");
        assert_eq!(windows[5], "/U/me/AppData/Roaming/Code/User/mcp.json");
        assert_eq!(paths(Os::Linux, &[]), shared);
    }
}
