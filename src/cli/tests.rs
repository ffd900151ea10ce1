use clap::CommandFactory;

use super::*;
use crate::config::Config;

fn parse(line: &[&str]) -> Command {
    Cli::try_parse_from(std::iter::once(&"undercurrent").chain(line)).unwrap().command
}

#[test]
fn the_definition_is_sound_and_its_help_teaches() {
    let mut command = Cli::command().term_width(100);
    command.clone().debug_assert();
    command.build();
    let mut help = command.render_help().to_string();
    for sub in ["serve", "gateway", "engine", "check", "install", "uninstall", "wrap", "replay", "hold", "key"] {
        let shown = command.find_subcommand_mut(sub).unwrap().render_help();
        help.push_str(&format!("\n=== {sub} ===\n{shown}"));
    }
    insta::assert_snapshot!(help);
}

#[test]
fn flags_of_serve_win_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.toml");
    std::fs::write(&config, "[listen]\nmcp = \"127.0.0.1:1\"\n[upstreams.a]\nurl = \"http://x\"").unwrap();
    let client = dir.path().join("mcp.json");
    std::fs::write(&client, r#"{"mcpServers":{"b":{"command":"b"},"c":{"command":"c","disabled":true}}}"#).unwrap();
    let command = parse(&[
        "serve",
        "--config",
        config.to_str().unwrap(),
        "--mcp-json",
        client.to_str().unwrap(),
        "--upstream",
        "a=run 'me now'",
        "--listen",
        "localhost:2",
        "--data",
        "d",
    ]);
    let Command::Serve(serve) = command else { panic!("not serve") };
    let (sources, notes) = serve.sources().unwrap();
    assert_eq!(notes.len(), 1);
    let config = Config::load(sources).unwrap();
    assert_eq!(config.listen.mcp.to_string(), "127.0.0.1:2");
    assert_eq!(config.data_dir, PathBuf::from("d"));
    let upstreams: Vec<_> = config.upstreams.iter().map(|(name, u)| format!("{name} {u:?}")).collect();
    insta::assert_snapshot!(upstreams.join("\n"));
}

#[test]
fn a_wrong_flag_is_named() {
    let Command::Serve(serve) = parse(&["serve", "--listen", "nowhere"]) else { panic!("not serve") };
    let message = Config::load(serve.sources().unwrap().0).unwrap_err().to_string();
    assert!(message.starts_with("flag --listen: `listen.mcp` = \"nowhere\""), "{message}");
}

#[test]
fn wrap_takes_what_follows_the_dashes_as_it_is() {
    let Command::Wrap(wrap) = parse(&["wrap", "--name", "n", "--", "npx", "--data", "x"]) else { panic!("not wrap") };
    assert_eq!(wrap.command, ["npx", "--data", "x"]);
    assert_eq!(wrap.data, None);
    assert!(Cli::try_parse_from(["undercurrent", "wrap", "--name", "n"]).is_err());
}

#[test]
fn replay_takes_recordings_and_workers() {
    let Command::Replay(replay) = parse(&["replay", "a.jsonl", "b.jsonl.zst", "--history", "h", "--workers", "2"])
    else {
        panic!("not replay")
    };
    assert_eq!(replay.frames.len(), 2);
    assert_eq!(Config::load(replay.sources()).unwrap().engine.workers, 2);
    assert!(Cli::try_parse_from(["undercurrent", "replay", "a", "--history", "h", "--workers", "0"]).is_err());
}
