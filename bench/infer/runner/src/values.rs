use std::fs;
use std::path::Path;

/// A model's outputs: the values of each, in the file's order.
pub type Outputs = Vec<Vec<f32>>;

/// Writes outputs to a file of their own form: their number, then each one's length and its values; all little-endian, lengths
/// of 64 bits.
pub fn write_outputs(path: &Path, outputs: &Outputs) -> Result<(), String> {
    let mut bytes = (outputs.len() as u64).to_le_bytes().to_vec();
    for output in outputs {
        bytes.extend((output.len() as u64).to_le_bytes());
        bytes.extend(output.iter().flat_map(|value| value.to_le_bytes()));
    }
    fs::write(path, bytes).map_err(|e| format!("cannot write {}: {e}", path.display()))
}

/// Reads what [`write_outputs`] wrote.
pub fn read_outputs(path: &Path) -> Result<Outputs, String> {
    let failed = |what: &str| format!("cannot read {}: {what}", path.display());
    let bytes = fs::read(path).map_err(|e| failed(&e.to_string()))?;
    parse(&bytes).ok_or_else(|| failed("it ends too early"))
}

fn parse(bytes: &[u8]) -> Option<Outputs> {
    let (count, mut rest) = bytes.split_first_chunk::<8>()?;
    let mut outputs = Vec::new();
    for _ in 0..u64::from_le_bytes(*count) {
        let (length, values) = rest.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?.checked_mul(4)?;
        let (values, after) = values.split_at_checked(length)?;
        outputs.push(values.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect());
        rest = after;
    }
    Some(outputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_come_back_as_they_were() {
        let path = std::env::temp_dir().join(format!("nv-bench-outputs-{}", std::process::id()));
        let outputs = vec![vec![1.5, -0.25], vec![], vec![f32::MAX]];
        write_outputs(&path, &outputs).expect("writable");
        assert_eq!(read_outputs(&path), Ok(outputs));
        fs::write(&path, [2, 0, 0]).expect("writable");
        assert!(read_outputs(&path).is_err_and(|e| e.ends_with("it ends too early")));
        fs::remove_file(&path).expect("it is there");
    }
}
