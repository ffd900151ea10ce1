//! A real Prometheus with the project's own configuration, on ports of its own.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use super::command::Words;
use super::http::{get, request};
use super::parts::{part, root};
use super::process::Process;
use super::wait::{free_address, wait_until};

#[derive(Debug)]
pub(crate) struct Prometheus {
    _process: Process,
    address: SocketAddr,
}

impl Prometheus {
    /// Starts it on `config/prometheus/prometheus.yml`, with the admin listener's address in place of the default one.
    #[track_caller]
    pub(crate) fn scraping(admin: SocketAddr, directory: &Path) -> Self {
        let source = root().join("config/prometheus");
        let target = directory.join("prometheus");
        fs::create_dir_all(&target).expect("make a directory");
        for entry in fs::read_dir(&source).unwrap_or_else(|error| panic!("{}: {error}", source.display())) {
            let entry = entry.expect("an entry");
            let text = fs::read_to_string(entry.path()).expect("configuration is text");
            fs::write(target.join(entry.file_name()), retarget(&text, admin)).expect("write configuration");
        }
        let config = target.join("prometheus.yml");
        let checked = Words::new(part("bin/promtool")).and_all(["check", "config"]).and(&config).command().output();
        let checked = checked.expect("promtool starts");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        let address = free_address();
        let mut command = Words::new(part("bin/prometheus"))
            .and(format!("--config.file={}", config.display()))
            .and(format!("--storage.tsdb.path={}", directory.join("tsdb").display()))
            .and(format!("--web.listen-address={address}"))
            .command();
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let process = Process::start("prometheus", command);
        wait_until("prometheus is ready", || {
            std::net::TcpStream::connect(address).is_ok() && get(address, "/-/ready").status() == 200
        });
        Self { _process: process, address }
    }

    /// The result of an instant query; an error is what Prometheus said of it.
    pub(crate) fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let form = format!("query={}", percent_encoded(expression));
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        let answer = request(self.address, "POST", "/api/v1/query", &headers, form.as_bytes());
        let json: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        if json["status"] != "success" {
            return Err(json["error"].to_string());
        }
        Ok(json["data"]["result"].as_array().cloned().unwrap_or_default())
    }
}

/// Every `HOST:8809` becomes the test's address, whatever the host is called.
fn retarget(text: &str, admin: SocketAddr) -> String {
    let is_host = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_');
    let mut parts = text.split(":8809");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        result.truncate(result.trim_end_matches(is_host).len());
        result.push_str(&format!("{admin}{part}"));
    }
    result
}

fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| if byte.is_ascii_alphanumeric() { char::from(byte).into() } else { format!("%{byte:02X}") };
    text.bytes().map(encode).collect()
}

/// What `promtool check metrics` says of a scrape; nothing is good.
#[track_caller]
pub(crate) fn complaints(scrape: &str) -> String {
    let mut command = Words::new(part("bin/promtool")).and_all(["check", "metrics"]).command();
    let mut process = Process::start("promtool", {
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        command
    });
    process.take_stdin().write_all(scrape.as_bytes()).expect("promtool reads");
    let status = process.wait();
    let said = process.stderr();
    assert!(status.success() || !said.is_empty(), "promtool: {status}");
    said
}
