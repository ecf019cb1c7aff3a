use std::panic::catch_unwind;

use super::*;
use crate::error::LoadError;

/// The smallest file that passes: a header, three segments, an empty table for the dynamic linker, notes.
fn library(notes: &[Vec<u8>]) -> Vec<u8> {
    const HEADERS: usize = 64 + 3 * 56;
    let dynamic = [0u8; 16];
    let notes = notes.concat();
    let length = (HEADERS + dynamic.len() + notes.len()) as u64;
    let machine = host_machine().unwrap().0;

    let mut file = Vec::new();
    file.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    file.extend(3u16.to_le_bytes()); // ET_DYN
    file.extend(machine.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    file.extend([0u64, 64, 0].iter().flat_map(|w| w.to_le_bytes())); // entry, program headers, section headers
    file.extend(0u32.to_le_bytes());
    file.extend([64u16, 56, 3, 64, 0, 0].iter().flat_map(|w| w.to_le_bytes()));
    let mut segment = |kind: u32, offset: u64, size: u64| {
        file.extend(kind.to_le_bytes());
        file.extend(4u32.to_le_bytes());
        file.extend([offset, offset, offset, size, size, 4].iter().flat_map(|w| w.to_le_bytes()));
    };
    segment(1, 0, length);
    segment(2, HEADERS as u64, dynamic.len() as u64);
    segment(4, (HEADERS + dynamic.len()) as u64, notes.len() as u64);
    file.extend(dynamic);
    file.extend(notes);
    file
}

fn note(owner: &str, kind: u32, description: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    for word in [owner.len() as u32 + 1, description.len() as u32, kind] {
        note.extend(word.to_le_bytes());
    }
    for part in [format!("{owner}\0").as_bytes(), description] {
        note.extend(part);
        note.resize(note.len().next_multiple_of(4), 0);
    }
    note
}

fn description(name: &str) -> Vec<u8> {
    let mut bytes = nv_plugin_abi::GENERATION.to_ne_bytes().to_vec();
    let texts = [
        ("1.0.0", 20),
        ("x86_64", 64),
        ("unwind", 8),
        (name, 64),
        ("nv-x", 64),
        ("0.1.0", 64),
        ("entry", 160),
        ("rustc", 64),
    ];
    for (text, room) in texts {
        let end = bytes.len() + room;
        bytes.extend(text.bytes());
        bytes.resize(end, 0);
    }
    bytes
}

fn refusal(file: &[u8]) -> String {
    let reason = plugin_notes(file).expect_err("to be refused");
    LoadError::new("x.so".as_ref(), reason).to_string().replace("cannot load plugin x.so: ", "")
}

#[test]
fn notes_are_found_among_others() {
    let file = library(&[
        note("GNU", 3, b"build id"),
        note("NextVision", 1, &description("one")),
        note("NextVision", 2, b"of a later version"),
        note("NextVision", 1, &description("two")),
    ]);
    let names: Vec<_> = plugin_notes(&file).unwrap().into_iter().map(|n| n.name).collect();
    assert_eq!(names, ["one", "two"]);
    assert_eq!(plugin_notes(&library(&[])).unwrap(), []);
}

#[test]
fn what_is_no_library_is_told_apart() {
    fn check(file: &[u8], expected: &str) {
        assert_eq!(refusal(file), expected);
    }
    let arch = std::env::consts::ARCH;
    check(b"", "it is empty");
    check("[stage]\nkind = \"tür\"\n".as_bytes(), "it is a text file, not a shared library");
    check(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "it is a file of an unknown format, not a shared library");
    check(b"MZ\x90\0", "it is a Windows library or program, not a shared library");
    check(&[0xcf, 0xfa, 0xed, 0xfe, 7], "it is a macOS library or program, not a shared library");
    check(b"!<arch>\n/    ", "it is a static library, not a shared library");
    check(b"\x7fELF", "it is truncated: it should have 64 bytes and has 4");
    check(b"\x7fELF\x02\x01\x01", "it is truncated: it should have 64 bytes and has 7");
    check(b"\x7fELF\x01\x01\x01", &format!("it is built for 32 bits, and this program for {arch}"));

    let good = library(&[note("NextVision", 1, &description("x"))]);
    let patched = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    check(&patched(5, &[2]), &format!("it is built for the other byte order, and this program for {arch}"));
    check(&patched(16, &[1]), "it is an object file, not a shared library");
    check(&patched(16, &[2]), "it is a program, not a shared library");
    check(&patched(18, &22u16.to_le_bytes()), &format!("it is built for s390x, and this program for {arch}"));
    check(&patched(18, &999u16.to_le_bytes()), &format!("it is built for machine 999, and this program for {arch}"));
    // A position-independent program has a flag among the entries for the dynamic linker.
    let mut program = patched(64 + 168, &0x6fff_fffbu64.to_le_bytes());
    program[64 + 168 + 8..64 + 168 + 16].copy_from_slice(&0x0800_0000u64.to_le_bytes());
    check(&program, "it is a program, not a shared library");
    check(&patched(64 + 56, &[4]), "it is an ELF file without a table for the dynamic linker, not a shared library");
    let short = library(&[note("NextVision", 1, b"short")]);
    check(&short, "it is damaged: its plugin note has only 5 bytes");
    let unnamed = library(&[note("NextVision", 1, &description("\u{7}"))]);
    check(&unnamed, "it is damaged: the plugin note's name is no text");
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let file = library(&[note("NextVision", 1, &description("x"))]);
    for length in 0..file.len() {
        let message = refusal(&file[..length]);
        let expected = match length {
            0 => "it is empty",
            1..4 => "it is a ",
            _ => "it is truncated: it should have ",
        };
        assert!(message.starts_with(expected), "{length}: {message}");
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

#[test]
fn hostile_files_are_refused_or_read_but_never_a_panic() {
    let good = library(&[note("GNU", 3, b"id"), note("NextVision", 1, &description("x"))]);
    let mut random = Random(7);
    let mut refused = 0;
    for round in 0..100_000 {
        let mut file = good.clone();
        match round % 4 {
            // Single bits, mostly in the headers.
            0 => {
                let at = random.below(64 + 3 * 56);
                file[at] ^= 1 << random.below(8);
            }
            // Words of extreme values.
            1 => {
                let at = random.below(file.len() - 8);
                let word = [0, 1, u64::MAX, i64::MAX as u64, 1 << 31, file.len() as u64][random.below(6)];
                file[at..at + 8].copy_from_slice(&word.to_le_bytes());
            }
            // Many bytes anywhere.
            2 => {
                for _ in 0..1 + random.below(20) {
                    let at = random.below(file.len());
                    file[at] = random.next() as u8;
                }
            }
            // Noise after a good beginning.
            _ => {
                let from = random.below(file.len());
                for byte in &mut file[from..] {
                    *byte = random.next() as u8;
                }
                file.truncate(from + random.below(good.len() - from + 1));
            }
        }
        let outcome = catch_unwind(|| plugin_notes(&file).is_err()).unwrap_or_else(|_| panic!("round {round}"));
        refused += usize::from(outcome);
    }
    assert!(refused > 50_000, "only {refused} refused");
}
