//! The files of golden vectors: one JSON object per line.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

/// Returns the vectors in a file, none if it is not there.
pub fn read(name: &str) -> Vec<Value> {
    let text = fs::read_to_string(path(name)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("a vector per line")).collect()
}

/// Returns the vectors in a file after checking that `current` are among them, unchanged; with
/// `ECUMENE_BLESS` set, those that are missing are added.
pub fn read_or_add(name: &str, current: &[Value]) -> Vec<Value> {
    let mut stands = read(name);
    for vector in current {
        let known = stands.iter().find(|known| known["name"] == vector["name"]);
        let is_step = vector["name"].is_null();
        match known.filter(|_| !is_step) {
            Some(known) => assert_eq!(known, vector, "a vector never changes: add a new kind"),
            None => {
                let what = "is missing: run ECUMENE_BLESS=1 cargo test -p protocol --test golden";
                let may_add = std::env::var_os("ECUMENE_BLESS").is_some();
                assert!(may_add, "{} in golden/{name} {what}", vector["name"]);
                add(name, vector);
                stands.push(vector.clone());
            }
        }
    }
    stands
}

fn add(name: &str, vector: &Value) {
    let file = fs::OpenOptions::new().append(true).create(true).open(path(name));
    let mut file = file.expect("open the vectors");
    writeln!(file, "{vector}").expect("write a vector");
}

/// Returns bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the bytes of a vector.
pub fn bytes_of(vector: &Value) -> Vec<u8> {
    let digits = vector["hex"].as_str().expect("hex");
    let pairs = digits.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).expect("digits"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect()
}
