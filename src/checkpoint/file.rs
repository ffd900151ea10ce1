//! One checkpoint's file: a line that says what it is, the sections, and a hash.
//!
//! ```text
//! UNDERCURRENT IMAGE \n              magic
//! {"format":1,…} \n                  the header, JSON
//! block …                            of each section, in the header's order: zstd
//! hash of the header                 u64, little endian
//! ```
//!
//! The header has the hash of each block, and the manifest that of the header.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use undercurrent_dataflows::image::{FORMAT, Image, Kind, Section};
use undercurrent_schemas::ids::{Micros, Tick, stable_hash};

use super::{CheckpointError, Entry, disk};

const MAGIC: &[u8] = b"UNDERCURRENT IMAGE\n";

/// Fast: the engine waits for none of it, but it takes a core.
const ZSTD_LEVEL: i32 = 1;

/// A section that is longer when it is unpacked is a damaged one.
const SECTION_BYTES_MAX: u64 = 1 << 36;

/// What a checkpoint says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Of the state in the sections.
    pub format: u32,
    /// Version of the program that wrote it.
    pub program: String,
    pub tick: Tick,
    pub watermark_us: Micros,
    pub sections: Vec<SectionHeader>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SectionHeader {
    /// A number of [`Kind`].
    pub kind: u8,
    pub number: u32,
    /// Unpacked.
    pub bytes: u64,
    pub packed_bytes: u64,
    /// `stable_hash` of the packed bytes.
    pub hash: u64,
}

/// Writes an image; not in the manifest yet.
pub(super) fn write(dir: &Path, image: &Image) -> Result<Entry, CheckpointError> {
    let Image { tick, watermark, sections } = image;
    let name = format!("t={:020}.image", tick.0);
    let path = dir.join(&name);
    disk::point("checkpoint-begun", &path)?;
    let pack = |section: &Section| zstd::bulk::compress(&section.bytes, ZSTD_LEVEL);
    let blocks: Vec<_> =
        sections.iter().map(pack).collect::<Result<_, _>>().map_err(CheckpointError::io("pack", &path))?;
    let of_section = |(section, block): (&Section, &Vec<u8>)| SectionHeader {
        kind: section.kind as u8,
        number: section.number,
        bytes: section.bytes.len() as u64,
        packed_bytes: block.len() as u64,
        hash: stable_hash(&[block]),
    };
    let header = Header {
        format: FORMAT,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        tick: *tick,
        watermark_us: *watermark,
        sections: sections.iter().zip(&blocks).map(of_section).collect(),
    };
    let mut line = serde_json::to_vec(&header).expect("numbers and strings always have a JSON form");
    line.push(b'\n');
    let hash = stable_hash(&[&line]);
    let bytes = MAGIC.len() + line.len() + blocks.iter().map(Vec::len).sum::<usize>() + size_of::<u64>();
    disk::replace(&path, |file| {
        file.write_all(MAGIC)?;
        file.write_all(&line)?;
        for (index, block) in blocks.iter().enumerate() {
            file.write_all(block)?;
            if index == blocks.len() / 2 {
                crate::faults::point("checkpoint-half")?;
            }
        }
        file.write_all(&hash.to_le_bytes())
    })?;
    disk::point("checkpoint-renamed", &path)?;
    Ok(Entry { tick: *tick, file: name, bytes: bytes as u64, hash: format!("{hash:016x}") })
}

/// Reads and checks a checkpoint.
pub(super) fn read(dir: &Path, entry: &Entry) -> Result<Image, CheckpointError> {
    let mut sections = Vec::new();
    let header = each_block(dir, entry, |path, of, block| {
        let damaged = |what| CheckpointError::Damaged { path: path.to_owned(), what };
        let kind = Kind::from_number(of.kind).ok_or_else(|| damaged("it has a section of no kind that is known"))?;
        let bytes = zstd::bulk::decompress(block, of.bytes as usize).map_err(CheckpointError::io("unpack", path))?;
        if bytes.len() as u64 != of.bytes {
            return Err(damaged("a section is shorter than it was"));
        }
        sections.push(Section { kind, number: of.number, bytes });
        Ok(())
    })?;
    Ok(Image::of(header.tick, header.watermark_us, sections))
}

/// Checks that a checkpoint's bytes are those that were written, and unpacks none.
pub(super) fn check(dir: &Path, entry: &Entry) -> Result<(), CheckpointError> {
    each_block(dir, entry, |_, _, _| Ok(())).map(drop)
}

/// Reads the blocks in turn, each checked.
fn each_block(
    dir: &Path,
    entry: &Entry,
    mut take: impl FnMut(&Path, &SectionHeader, &[u8]) -> Result<(), CheckpointError>,
) -> Result<Header, CheckpointError> {
    let (path, mut file, header) = open(dir, entry)?;
    let damaged = |what| CheckpointError::Damaged { path: path.clone(), what };
    for of in &header.sections {
        if of.bytes > SECTION_BYTES_MAX || of.packed_bytes > entry.bytes {
            return Err(damaged("a section is longer than it can be"));
        }
        let mut block = Vec::new();
        (&mut file).take(of.packed_bytes).read_to_end(&mut block).map_err(CheckpointError::io("read", &path))?;
        if block.len() as u64 != of.packed_bytes || stable_hash(&[&block]) != of.hash {
            return Err(damaged("the bytes are not those that were written"));
        }
        take(&path, of, &block)?;
    }
    let mut hash = [0; 8];
    file.read_exact(&mut hash).map_err(|_| damaged("its end is missing"))?;
    if format!("{:016x}", u64::from_le_bytes(hash)) != entry.hash {
        return Err(damaged("it does not end with its hash"));
    }
    Ok(header)
}

/// What a checkpoint says of itself.
pub(super) fn header(dir: &Path, entry: &Entry) -> Result<Header, CheckpointError> {
    open(dir, entry).map(|(_, _, header)| header)
}

fn open(dir: &Path, entry: &Entry) -> Result<(PathBuf, BufReader<File>, Header), CheckpointError> {
    /// Of a header, what every version has.
    #[derive(Deserialize)]
    struct Form {
        format: u32,
        program: String,
    }
    let path = dir.join(&entry.file);
    let damaged = |what| CheckpointError::Damaged { path: path.clone(), what };
    let file = File::open(&path).map_err(CheckpointError::io("open", &path))?;
    let mut file = BufReader::with_capacity(1 << 20, file);
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic).map_err(|_| damaged("it is empty"))?;
    if magic != MAGIC {
        return Err(damaged("it does not begin like a checkpoint"));
    }
    let mut line = Vec::new();
    (&mut file).take(entry.bytes).read_until(b'\n', &mut line).map_err(CheckpointError::io("read", &path))?;
    if format!("{:016x}", stable_hash(&[&line])) != entry.hash {
        return Err(damaged("its header is not the one that was written"));
    }
    let Form { format: found, program } = serde_json::from_slice(&line).map_err(|_| damaged("its header is none"))?;
    if found != FORMAT {
        return Err(CheckpointError::OtherFormat { path, found, program });
    }
    let header: Header = serde_json::from_slice(&line).map_err(|_| damaged("its header is incomplete"))?;
    if header.tick != entry.tick {
        return Err(damaged("it is of another tick than the manifest says"));
    }
    Ok((path, file, header))
}
