//! Graphs that contradict themselves, and graphs of absurd size.

use nv_infer::testing::OnnxBuilder;
use rten_onnx::onnx;

use crate::floods::{message, with_part};
use crate::table::{Table, edited, one, picture};

#[test]
fn graphs_that_contradict_themselves_are_refused() {
    let mut table = Table::default();
    let cycle = picture().node("Relu", &["b"], &["a"]).node("Relu", &["a"], &["b"]).output_of_any_shape("b");
    table.refused("two nodes in a cycle", cycle, &["Relu node \"Relu_a\"", "depends on itself"]);
    table.refused("a node of itself", one(picture(), "Relu", &["y"]), &["Relu node \"Relu_y\" depends on itself"]);
    let mut long = picture().output_of_any_shape("v0");
    for i in 0..10_000 {
        long = long.node("Neg", &[&format!("v{}", (i + 1) % 10_000)], &[&format!("v{i}")]);
    }
    table.refused("a cycle of ten thousand nodes", long, &["Neg node \"Neg_v0\" depends on itself"]);
    let twice = one(picture(), "Relu", &["x"]).node("Neg", &["x"], &["y"]);
    table.refused("a value computed twice", twice, &["Neg node \"Neg_y\"", "two things are called \"y\""]);
    let both = one(picture(), "Relu", &["x"]).initializer("y", &[1], &[0.0]);
    table.refused("a constant that is computed", both, &["Relu node \"Relu_y\"", "two things are called \"y\""]);
    let over = picture().node("Relu", &["x"], &["x"]).output_of_any_shape("x");
    table.refused("an input that is computed", over, &["Relu node \"Relu_x\"", "two things are called \"x\""]);
    let twins = one(picture(), "Split", &["x"]);
    let twins = edited(twins, |graph| graph.node[0].output.push("y".into()));
    table.refused("a node that gives a value twice", twins, &["Split node \"Split_y\"", "two things are called \"y\""]);
    let constants = one(picture(), "Relu", &["x"]).initializer("w", &[1], &[0.0]).initializer("w", &[1], &[1.0]);
    table.refused("two constants of a name", constants, &["tensor \"w\"", "two things are called"]);
    let inputs = one(picture(), "Relu", &["x"]).input("x", &[1.into()]);
    table.refused("two inputs of a name", inputs, &["input \"x\"", "two things are called"]);
    table.refused(
        "an initialiser that is missing",
        one(picture(), "Conv", &["x", "w"]),
        &["Conv node \"Conv_y\"", "its input \"w\" is neither an input of the graph, nor a constant, nor computed"],
    );
    table.refused("an output of nothing", picture().output_of_any_shape("y"), &["nothing computes the output \"y\""]);
    let sparse = one(picture().node("Constant", &[], &["c", "d"]).attribute("value_int", 1), "Add", &["x", "d"]);
    table.refused(
        "an output that a constant lacks",
        sparse,
        &["Add node \"Add_y\"", "nothing computes its input \"d\""],
    );
    let void = edited(one(picture(), "Relu", &["x"]), |graph| graph.node[0].output.clear());
    table.refused("a node without outputs", void, &["Relu node \"Relu_y\"", "it has no output"]);
    table.refused("no output at all", picture().node("Relu", &["x"], &["y"]), &["its graph has no output"]);
    table.done();
}

#[test]
fn inputs_and_outputs_are_counted() {
    let mut table = Table::default();
    let mut check = |operator: &str, inputs: &[&str], expected: &str| {
        let file = one(picture().integers("i", &[1]), operator, inputs);
        table.refused(operator, file, &[&format!("{operator} node \"{operator}_y\""), expected]);
    };
    check("Relu", &[], "input 1 is missing");
    check("Relu", &["x", "x"], "it has 2 inputs, 1 are the most");
    check("Conv", &["x"], "input 2 is missing");
    check("Conv", &["x", "", "i"], "input 2 is missing");
    check("Reshape", &["x"], "input 2 is missing");
    check("Expand", &["x"], "input 2 is missing");
    check("Resize", &["x"], "neither scales nor sizes are there");
    check("Upsample", &["x"], "neither scales nor sizes are there");
    check("Slice", &["x", "i"], "input 3 is missing");
    check("Unsqueeze", &["x"], "input 2 is missing");
    check("TopK", &["x"], "input 2 is missing");
    check("Pad", &["x"], "input 2 is missing");
    check("Add", &["x"], "input 2 is missing");
    check("Add", &["x", "x", "x"], "it has 3 inputs, 2 are the most");
    check("Max", &[], "input 1 is missing");
    check("BatchNormalization", &["x", "i", "i", "i"], "input 5 is missing");
    let outputs = edited(one(picture(), "Relu", &["x"]), |graph| graph.node[0].output.push("z".into()));
    table.refused("too many outputs", outputs, &["Relu node \"Relu_y\"", "it has 2 outputs, 1 are the most"]);
    table.done();
}

#[test]
fn graphs_of_absurd_size_are_refused_and_large_ones_are_not() {
    let mut table = Table::default();
    let chain = |n: usize, operator: &str| {
        let mut builder = picture();
        let mut from = "x".to_owned();
        for i in 0..n {
            let to = format!("v{i}");
            builder = builder.node(operator, &[&from], &[&to]);
            from = to;
        }
        builder.output_of_any_shape(&from)
    };
    table.refused("a chain of 100 000", chain(100_000, "Relu"), &["100000 nodes", "16384"]);
    table.analysed("a chain of 16 000", chain(16_000, "Relu"), &["16000 nodes: Relu 16000", "free (N)"]);
    let fan = |n: usize| {
        let mut builder = picture();
        for i in 0..n {
            builder = builder.node("Relu", &["x"], &[&format!("v{i}")]).output_of_any_shape(&format!("v{i}"));
        }
        builder
    };
    table.analysed("16 000 values alive at once", fan(16_000), &["16000 nodes: Relu 16000"]);
    let wide = |n: usize| one(picture(), "Concat", &vec!["x"; n]).attribute("axis", 1);
    table.refused("a Concat of 100 000", wide(100_000), &["1 nodes", "100002 values"]);
    table.analysed("a Concat of 60 000", wide(60_000), &["N×240000×8×8", "60000 in all"]);
    let split = |n: usize| {
        let names: Vec<String> = (0..n).map(|i| format!("v{i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let x = OnnxBuilder::new().input("x", &[1.into(), n.into()]);
        x.node("Split", &["x"], &names).attribute("axis", 1).output_of_any_shape("v0")
    };
    table.refused("a Split into 100 000", split(100_000), &["1 nodes", "100002 values"]);
    table.analysed("a Split into 60 000", split(60_000), &["60000 in all"]);
    // Every slice of a Concat of many, and every one of them an output.
    let outputs = edited(split(60_000), |graph| {
        let like = graph.output[0].clone();
        let names = graph.node[0].output.iter().skip(1);
        graph.output.extend(names.map(|name| onnx::ValueInfoProto { name: Some(name.clone()), ..like.clone() }));
    });
    table.analysed("60 000 outputs", outputs, &["Split 1"]);
    // Deep in open sizes: each step makes them more complicated.
    let mut open = OnnxBuilder::new().input("v0", &["n".into(), 1.into(), "h".into(), "w".into()]);
    for i in 0..15_000 {
        open = open
            .node("MaxPool", &[&format!("v{i}")], &[&format!("v{}", i + 1)])
            .attribute_list("kernel_shape", &[2, 2])
            .attribute_list("pads", &[1, 1, 0, 1])
            .attribute_list("strides", &[1, 1]);
    }
    table.ends("sizes that grow with every node", open.output_of_any_shape("v15000"));
    let mut doubled = OnnxBuilder::new().input("v0", &["n".into(), "h".into()]);
    for i in 0..5000 {
        let from = format!("v{i}");
        doubled = doubled.node("Concat", &[&from, &from], &[&format!("v{}", i + 1)]).attribute("axis", 1);
    }
    table.refused(
        "sizes that double",
        doubled.output_of_any_shape("v5000"),
        &["Concat node \"Concat_v63\"", "63 bits"],
    );
    table.done();
}

#[test]
fn names_of_megabytes_are_refused() {
    let mut table = Table::default();
    let long = "n".repeat(2 << 20);
    let too_long = ["nnnn…\"", "2097152 bytes; 1024 are the most"];
    let value = edited(one(picture(), "Relu", &["x"]), |graph| graph.node[0].output.push(long.clone()));
    table.refused("a value's name", value, &too_long);
    table.refused("an input's name", one(picture(), "Relu", &["x", &long]), &too_long);
    let mut edit = |case: &str, edit: &dyn Fn(&mut onnx::GraphProto)| {
        table.refused(case, edited(one(picture(), "Relu", &["x"]), |graph| edit(graph)), &too_long);
    };
    edit("a node's name", &|graph| graph.node[0].name = Some(long.clone()));
    edit("an operator's name", &|graph| graph.node[0].op_type = Some(long.clone()));
    edit("a domain's name", &|graph| graph.node[0].domain = Some(long.clone()));
    edit("a tensor's name", &|graph| {
        graph.initializer.push(onnx::TensorProto { name: Some(long.clone()), ..Default::default() });
    });
    let dimension = one(OnnxBuilder::new().input("x", &[long.as_str().into()]), "Relu", &["x"]);
    table.refused("a dimension's name", dimension, &["of \"x\" has a name of 2097152 bytes"]);
    // Short names for values, long ones for what takes their place: the text would be a thousand times the file.
    let mut builder = OnnxBuilder::new().input(&long[..1000], &[1.into(), 4.into()]);
    builder = builder.node("Identity", &[&long[..1000]], &["v"]);
    for i in 0..1000 {
        builder = builder.node("Concat", &["v"; 60], &[&format!("c{i}")]).attribute("axis", 1);
        builder = builder.output_of_any_shape(&format!("c{i}"));
    }
    table.analysed("names that are replaced by long ones", builder, &["Concat 1000"]);
    table.done();
}

#[test]
fn graphs_within_graphs() {
    let mut table = Table::default();
    // A node with a graph within it, with a node with a graph within it.
    let nested = |depth: usize, operator: &str| {
        let mut node = message(2, b"y");
        for _ in 0..depth {
            let branch = [message(1, b"then_branch"), message(6, &message(1, &node))].concat();
            let names =
                [message(1, b"c"), message(2, b"y"), message(3, b"inner"), message(4, operator.as_bytes())].concat();
            node = [names, message(5, &branch)].concat();
        }
        let rest = picture().integers("c", &[1]).output_of_any_shape("y");
        with_part(rest, &message(1, &node))
    };
    table.analysed("an If", nested(1, "If"), &["If (node \"inner\"): it has a graph within it"]);
    table.analysed("ten of them", nested(10, "Loop"), &["Loop (node \"inner\"): it has a graph within it"]);
    table.refused("fifty of them", nested(50, "If"), &["messages nest deeper than 64"]);
    table.refused("a thousand of them", nested(1000, "If"), &["messages nest deeper than 64"]);
    // A graph within that captures the same value over and over.
    let captures = edited(picture().output_of_any_shape("y"), |graph| {
        let inner = onnx::NodeProto { input: vec!["x".into(); 500_000], ..Default::default() };
        graph.node.push(onnx::NodeProto {
            op_type: Some("If".into()),
            output: vec!["y".into()],
            attribute: vec![onnx::AttributeProto {
                g: Some(onnx::GraphProto { node: vec![inner], ..Default::default() }),
                ..Default::default()
            }],
            ..Default::default()
        });
    });
    table.ends("half a million captures", captures);
    table.done();
}

#[test]
fn operator_sets_and_domains_that_are_not_there() {
    let mut table = Table::default();
    let why = "of an operator set before 7";
    table.analysed("operator set 0", one(picture(), "Relu", &["x"]).opset(0), &["lacking     Relu", why]);
    table.analysed(
        "a negative operator set",
        one(picture(), "Relu", &["x"]).opset(i64::MIN),
        &["lacking     Relu", why],
    );
    table.analysed("an operator set to come", one(picture(), "Relu", &["x"]).opset(i64::MAX), &["Relu 1"]);
    let foreign = edited(one(picture(), "Relu", &["x"]), |graph| graph.node[0].domain = Some("evil".into()));
    table.analysed("another domain", foreign, &["lacking     evil.Relu", "not of ONNX's own operator set"]);
    table.analysed("no such operator", one(picture(), "Frobnicate", &["x"]), &["Frobnicate", "not known"]);
    let nameless = edited(one(picture(), "Relu", &["x"]), |graph| graph.node[0].op_type = None);
    table.analysed("no operator", nameless, &["lacking     ?"]);
    table.done();
}
