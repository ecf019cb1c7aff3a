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

/// Of an operator set that there is not, no shape was known of ConstantOfShape; rten took it nevertheless, and as much memory as
/// the file said, which ended the process. So did all that rten was given whose size only a run tells.
#[test]
fn a_size_that_only_a_run_tells() {
    let mut table = Table::default();
    let said = &["session", "how much ConstantOfShape node", "gives does not show before a run"];
    let huge = [1, 3, 4, 1 << 62, 8, 1000];
    let model = picture().opset(-1).integers("v", &huge);
    table.analysed("no operator set", one(model, "ConstantOfShape", &["v"]), said);
    let model = picture()
        .node("ReduceMax", &["x"], &["greatest"])
        .attribute_list("axes", &[1, 2, 3])
        .initializer("much", &[], &[1e9])
        .node("Mul", &["greatest", "much"], &["more"])
        .node("Cast", &["more"], &["whole"])
        .attribute("to", 7)
        .node("Reshape", &["whole", "line"], &["size"])
        .integers("line", &[-1]);
    table.analysed("a size that the picture tells", one(model, "ConstantOfShape", &["size"]), said);
    table.done();
}
