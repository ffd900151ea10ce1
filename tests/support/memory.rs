//! How much memory a process holds, as the operating system sees it.

use std::process::Command;

pub(crate) const MIB: u64 = 1 << 20;

/// Resident bytes.
#[track_caller]
pub(crate) fn resident(pid: u32) -> u64 {
    let asked = Command::new("ps").args(["-o", "rss=", "-p", &pid.to_string()]).output().expect("run ps");
    let kib: u64 = String::from_utf8_lossy(&asked.stdout).trim().parse().expect("ps prints a number of KiB");
    kib << 10
}
