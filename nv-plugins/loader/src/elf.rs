//! What can be known of a library without loading it, by the ELF specification ("System V ABI", chapters 4 and 5).

use object::elf;
use object::read::elf::{FileHeader, ProgramHeader as _};
use object::{Endianness, endian::Endian as _};

use crate::error::Reason;
use crate::note::PluginNote;

#[cfg(target_pointer_width = "64")]
type Header = elf::FileHeader64<Endianness>;
#[cfg(target_pointer_width = "32")]
type Header = elf::FileHeader32<Endianness>;

/// The notes of the plugins in a library, after a check that it is whole and for this machine.
pub(crate) fn plugin_notes(file: &[u8]) -> Result<Vec<PluginNote>, Reason> {
    check_magic(file)?;
    let header = Header::parse(file).map_err(damaged)?;
    let endian = header.endian().map_err(damaged)?;
    if endian.is_big_endian() != cfg!(target_endian = "big") {
        return Err(Reason::Machine { library: "the other byte order".into(), host: std::env::consts::ARCH });
    }
    let machine = header.e_machine(endian);
    if Some(machine) != host_machine() {
        return Err(Reason::Machine { library: machine_name(machine), host: std::env::consts::ARCH });
    }
    match header.e_type(endian) {
        elf::ET_DYN => {}
        elf::ET_REL => return Err(Reason::NotALibrary("an object file")),
        elf::ET_EXEC => return Err(Reason::NotALibrary("a program")),
        elf::ET_CORE => return Err(Reason::NotALibrary("a core dump")),
        _ => return Err(Reason::NotALibrary("an ELF file of an unknown type")),
    }
    let segments = header.program_headers(endian, file).map_err(|_| truncated_headers(header, endian, file))?;
    check_extent(header, segments, endian, file)?;
    check_dynamic(segments, endian, file)?;

    let mut found = Vec::new();
    for segment in segments {
        let Some(mut notes) = segment.notes(endian, file).map_err(damaged)? else { continue };
        while let Some(note) = notes.next().map_err(damaged)? {
            let ours = note.name() == nv_plugin_abi::Note::OWNER.as_bytes();
            if ours && note.n_type(endian) == elf::NoteType(nv_plugin_abi::Note::TYPE) {
                found.push(PluginNote::parse(note.desc())?);
            }
        }
    }
    Ok(found)
}

/// Tells an ELF file of this machine's word size from everything else that people put at the end of a path.
fn check_magic(file: &[u8]) -> Result<(), Reason> {
    if file.is_empty() {
        return Err(Reason::Empty);
    }
    let what = match file {
        [0x7f, b'E', b'L', b'F', rest @ ..] => {
            let Some(&class) = rest.first() else {
                return Err(Reason::Truncated { need: size_of::<Header>() as u64, have: file.len() as u64 });
            };
            let (ours, bits) = if cfg!(target_pointer_width = "64") { (2, "32 bits") } else { (1, "64 bits") };
            if class != ours {
                return Err(Reason::Machine { library: bits.into(), host: std::env::consts::ARCH });
            }
            if file.len() < size_of::<Header>() {
                return Err(Reason::Truncated { need: size_of::<Header>() as u64, have: file.len() as u64 });
            }
            return Ok(());
        }
        [b'M', b'Z', ..] => "a Windows library or program",
        [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => "a macOS library or program",
        [b'!', b'<', b'a', b'r', b'c', b'h', b'>', ..] => "a static library",
        _ if is_text(file) => "a text file",
        _ => "a file of an unknown format",
    };
    Err(Reason::NotALibrary(what))
}

fn is_text(file: &[u8]) -> bool {
    let head = &file[..file.len().min(512)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The cut may go through a character.
        Err(e) if e.valid_up_to() + 4 > head.len() => std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or_default(),
        Err(_) => return false,
    };
    !valid.is_empty() && !valid.contains(|c: char| c.is_control() && !c.is_whitespace())
}

fn damaged(error: object::read::Error) -> Reason {
    Reason::Damaged(error.to_string())
}

/// Program headers that can't be read are mostly beyond the end.
fn truncated_headers(header: &Header, endian: Endianness, file: &[u8]) -> Reason {
    let size = u64::from(header.e_phentsize(endian)) * u64::from(header.e_phnum(endian));
    let need = widen(header.e_phoff(endian)).checked_add(size);
    let have = file.len() as u64;
    match need {
        Some(need) if need > have => Reason::Truncated { need, have },
        _ => Reason::Damaged("its program headers can't be read".into()),
    }
}

/// Everything that the headers point to must be inside the file: the system's loader maps without looking, and the process
/// dies where the file ends.
fn check_extent(
    header: &Header,
    segments: &[<Header as FileHeader>::ProgramHeader],
    endian: Endianness,
    file: &[u8],
) -> Result<(), Reason> {
    let have = file.len() as u64;
    let mut need = 0;
    for segment in segments {
        let (offset, size) = segment.file_range(endian);
        let end = offset.checked_add(size).ok_or_else(|| Reason::Damaged("a segment has no end".into()))?;
        need = need.max(end);
        let (align, memory) = (widen(segment.p_align(endian)), widen(segment.p_memsz(endian)));
        if segment.p_type(endian) == elf::PT_LOAD && (memory < size || !(align == 0 || align.is_power_of_two())) {
            return Err(Reason::Damaged("a segment is not laid out as segments are".into()));
        }
    }
    let sections = u64::from(header.e_shentsize(endian)) * u64::from(header.e_shnum(endian));
    let sections_end = widen(header.e_shoff(endian)).checked_add(sections);
    need = need.max(sections_end.ok_or_else(|| Reason::Damaged("its section headers have no end".into()))?);
    if need > have { Err(Reason::Truncated { need, have }) } else { Ok(()) }
}

/// A library has one table for the dynamic linker, and is no program in the guise of one.
fn check_dynamic(
    segments: &[<Header as FileHeader>::ProgramHeader],
    endian: Endianness,
    file: &[u8],
) -> Result<(), Reason> {
    use object::read::elf::Dyn as _;
    let mut tables = 0;
    for segment in segments {
        let Some(table) = segment.dynamic(endian, file).map_err(damaged)? else { continue };
        tables += 1;
        let flags = table.iter().find(|entry| entry.tag(endian) == elf::DT_FLAGS_1);
        if flags.is_some_and(|entry| widen(entry.d_val(endian)) & elf::DF_1_PIE.0 != 0) {
            return Err(Reason::NotALibrary("a program"));
        }
    }
    match tables {
        1 => Ok(()),
        0 => Err(Reason::NotALibrary("an ELF file without a table for the dynamic linker")),
        _ => Err(Reason::Damaged("it has several tables for the dynamic linker".into())),
    }
}

fn widen(word: impl Into<u64>) -> u64 {
    word.into()
}

fn host_machine() -> Option<elf::Machine> {
    Some(match std::env::consts::ARCH {
        "x86_64" => elf::EM_X86_64,
        "x86" => elf::EM_386,
        "aarch64" => elf::EM_AARCH64,
        "arm" => elf::EM_ARM,
        "riscv64" | "riscv32" => elf::EM_RISCV,
        "powerpc64" => elf::EM_PPC64,
        "s390x" => elf::EM_S390,
        "loongarch64" => elf::EM_LOONGARCH,
        _ => return None,
    })
}

fn machine_name(machine: elf::Machine) -> String {
    match machine {
        elf::EM_X86_64 => "x86_64".into(),
        elf::EM_386 => "x86".into(),
        elf::EM_AARCH64 => "aarch64".into(),
        elf::EM_ARM => "arm".into(),
        elf::EM_RISCV => "riscv".into(),
        elf::EM_PPC64 => "powerpc64".into(),
        elf::EM_S390 => "s390x".into(),
        elf::EM_LOONGARCH => "loongarch64".into(),
        other => format!("machine {}", other.0),
    }
}

#[cfg(all(test, target_pointer_width = "64", target_endian = "little"))]
mod tests;
