//! `install` and `uninstall`: what they are told about this machine, and what they say.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use similar::TextDiff;
use url::Url;

use super::check::probe::client::Client as McpClient;
use crate::cli::{ClientArgs, InstallArgs, UninstallArgs};
use crate::config::Sources;
use crate::install::{Action, FileReport, Gateway, Install, Options, Os, Outcome, Report, Surroundings, run};

/// How long a gateway may take to answer for one of its upstreams.
const GATEWAY_PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn install(args: &InstallArgs) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe().context("find this program")?.display().to_string();
    // A project is shared with people who have this program elsewhere.
    let shared_program = if which::which("undercurrent").is_ok() { "undercurrent".to_owned() } else { program.clone() };
    let data = args.data.as_deref().map(std::path::absolute).transpose().context("find the data directory")?;
    let runtime = super::runtime()?;
    let url = args.gateway.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned());
    let serves = |name: &str| match (&url, &args.gateway) {
        (Some(base), Some(url)) => runtime.block_on(served(base, url, name)),
        _ => Err("no gateway was named".to_owned()),
    };
    let gateway = url.clone().map(|url| Gateway { url, serves: &serves });
    let data = data.map(|data| data.display().to_string());
    let action = Action::Install(Install { program, shared_program, data, gateway });
    finish(&args.clients, action)
}

pub(super) fn uninstall(args: &UninstallArgs) -> anyhow::Result<ExitCode> {
    finish(&args.clients, Action::Uninstall)
}

async fn served(base: &str, url: &Url, name: &str) -> Result<(), String> {
    if url.scheme() != "http" {
        return Err("only a gateway at http:// can be asked".to_owned());
    }
    let mut client = McpClient::new(format!("{base}/mcp/{name}"));
    match tokio::time::timeout(GATEWAY_PATIENCE, client.probe()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.is_sign_in() => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {GATEWAY_PATIENCE:?}")),
    }
}

fn finish(args: &ClientArgs, action: Action<'_>) -> anyhow::Result<ExitCode> {
    let project = std::env::current_dir().context("find the current directory")?;
    let env = Sources::of_process(None, None).env;
    let options = Options {
        clients: args.client.clone(),
        names: args.name.clone(),
        dry_run: args.dry_run,
        surroundings: Surroundings { os: Os::current(), env, project },
        action,
    };
    let report = run(&options);
    print(&text(&report, args.dry_run));
    let failed = !report.unknown_names.is_empty() || report.files.iter().any(|file| file.error.is_some());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[expect(clippy::print_stdout, reason = "what was done is what the command is asked for")]
fn print(text: &str) {
    print!("{text}");
}

fn text(report: &Report, dry_run: bool) -> String {
    let mut text = String::new();
    if report.files.is_empty() {
        text.push_str("No client keeps servers here. Looked at:\n");
        text.extend(report.absent.iter().map(|path| format!("  {}\n", path.display())));
    }
    for file in &report.files {
        one_file(&mut text, file, dry_run);
    }
    for name in &report.unknown_names {
        text.push_str(&format!("No file has a server `{name}`.\n"));
    }
    let changes = report.files.iter().any(|file| file.change.is_some() && file.error.is_none());
    match (changes, dry_run) {
        (true, true) => text.push_str("Nothing was changed: this was a dry run.\n"),
        (true, false) => text.push_str("Restart these clients: they read their files when they start.\n"),
        (false, _) => text.push_str("Nothing to change.\n"),
    }
    text
}

fn one_file(text: &mut String, file: &FileReport, dry_run: bool) {
    let shared = if file.shared { ", of this project: others may use it too" } else { "" };
    text.push_str(&format!("{}: {}{shared}\n", file.client.name(), file.path.display()));
    if let Some(error) = &file.error {
        text.push_str(&format!("  {error}\n\n"));
        return;
    }
    if file.servers.is_empty() {
        text.push_str("  no servers\n");
    }
    let width = file.servers.iter().map(|server| server.name.chars().count()).max().unwrap_or(0);
    for server in &file.servers {
        let became = match &server.outcome {
            Outcome::Changed(to) => to.clone(),
            Outcome::Already => "stays: it is so already".to_owned(),
            Outcome::Left(reason) => format!("left as it is: {reason}"),
        };
        text.push_str(&format!("  {:width$}  {became}\n", server.name));
    }
    if let Some(change) = &file.change {
        if dry_run {
            let diff = TextDiff::from_lines(&change.before, &change.after);
            let name = file.path.display().to_string();
            text.push_str(&diff.unified_diff().context_radius(1).header(&name, &name).to_string());
        } else {
            text.push_str(&format!("  as it was before the first change: {}\n", change.backup.display()));
        }
    }
    text.push('\n');
}
