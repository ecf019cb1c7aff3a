//! What fuzzing has found, made smaller and given a name.

use crate::floods::{message, with_part};
use crate::table::{Table, one, picture};

/// On a packed number of more than ten bytes the parser (rten-onnx 0.27) went round for ever.
#[test]
fn a_packed_number_without_end() {
    let mut table = Table::default();
    for length in [10, 11, 12, 20] {
        let mut number = vec![0x80; length];
        number.push(1);
        let tensor = [vec![0x08, 1, 0x10, 7], message(7, &number), message(8, b"w")].concat();
        let file = with_part(one(picture(), "Add", &["x", "w"]), &message(5, &tensor));
        table.refused("a number without end", file, &["tensor: field 7 has a broken number"]);
    }
    table.done();
}
