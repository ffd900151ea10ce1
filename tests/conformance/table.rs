//! The counts of all runs, for people.

use std::fmt;

use super::Path;
use super::checks::Checks;
use super::suite::Side;

/// One row a part of the suite, one column a path.
#[derive(Debug)]
pub(crate) struct Table {
    side: Side,
    paths: Vec<Path>,
    rows: Vec<(&'static str, Vec<String>)>,
}

impl Table {
    pub(crate) fn new(side: Side, paths: &[Path]) -> Self {
        Self { side, paths: paths.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, part: &'static str, runs: &[Checks]) {
        let cells = runs.iter().map(|run| format!("{} / {}", run.passed(), run.failed())).collect();
        self.rows.push((part, cells));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, first: &str, cells: &[String]| {
            write!(f, "| {first:28} |")?;
            cells.iter().try_for_each(|cell| write!(f, " {cell:>9} |"))?;
            writeln!(f)
        };
        let heads: Vec<String> = self.paths.iter().map(|path| format!("{path:?}").to_lowercase()).collect();
        line(f, &format!("{:?}s, passed / failed", self.side), &heads)?;
        writeln!(f, "|{}|{}", "-".repeat(30), format!("{}:|", "-".repeat(10)).repeat(heads.len()))?;
        self.rows.iter().try_for_each(|(part, cells)| line(f, part, cells))
    }
}
