//! What the engine makes of a model, for people and programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::graph::batch;
use crate::graph::concrete::concrete;
use crate::graph::cost::cost;
use crate::graph::fold::fixed_shape;
use crate::graph::import::import;
use crate::graph::infer::infer;
use crate::graph::ir::{Graph, Node, ValueId};
use crate::graph::op::Op;
use crate::graph::passes::{self, Rewrites};
use crate::graph::size::Size;
use crate::plan::{Plan, Target, lower};
use crate::text::{printable, short_name};
use crate::{InferError, Model, SimdLevel, model};

/// For what a [`GraphReport`] is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphOptions {
    /// Entries in a batch, for the memory. Default 1.
    pub batch: usize,
    /// Sizes of dimensions that the file leaves open, by their name. Default none.
    pub sizes: BTreeMap<String, usize>,
    /// How large a buffer may be, in bytes. Default 128 MiB, the least that Vulkan and WebGPU devices bind.
    pub buffer_limit: u64,
    /// Whether to list nodes and steps. Default `false`.
    pub nodes: bool,
}

impl Default for GraphOptions {
    fn default() -> Self {
        Self { batch: 1, sizes: BTreeMap::new(), buffer_limit: 128 << 20, nodes: false }
    }
}

/// What the front end of the inference engine makes of a model's graph. `Display` gives several lines for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GraphReport {
    /// The graph as the file has it.
    pub file: GraphSummary,
    /// After constants were folded, shapes inferred and nodes fused; `None` where its shapes contradict each other.
    pub fused: Option<GraphSummary>,
    /// Why there is nothing but the file's graph.
    pub problem: Option<String>,
    /// What was rewritten.
    pub rewrites: Vec<Rewrites>,
    /// The symbol of the batch, where it is free: any number of entries can be computed at once.
    pub batch: Option<String>,
    /// Why the batch is not free: the node that can't be shown to compute each entry by itself.
    pub batch_fixed: Option<String>,
    /// Operators that the graph does not understand.
    pub lacking: Vec<LackingOperator>,
    /// What one entry costs, or the file's whole batch where that is not free; `None` where that depends on an open size.
    pub cost: Option<EntryCost>,
    /// The steps that executors run; `None` where there is no plan.
    pub plan: Option<PlanSummary>,
    /// What the plan takes in memory.
    pub memory: Option<MemoryUse>,
    /// Why `cost`, `plan` or `memory` is not there.
    pub unknown: Option<String>,
}

/// The nodes of a graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GraphSummary {
    /// How many there are.
    pub nodes: usize,
    /// How often each operator occurs; a fused one counts as the operator that does the work.
    pub operators: BTreeMap<String, usize>,
    /// Each node with what it computes, in their order; empty unless asked for.
    pub list: Vec<String>,
}

/// An operator that the graph does not understand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LackingOperator {
    /// Its name.
    pub operator: String,
    /// The node's name.
    pub node: String,
    /// Why.
    pub why: String,
}

impl fmt::Display for LackingOperator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (node {:?}): {}", short_name(&self.operator), short_name(&self.node), self.why)
    }
}

/// What one entry costs to compute, or one run where the batch is fixed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EntryCost {
    /// Multiplications, each with an addition.
    pub macs: u64,
    /// Of those, what convolutions do.
    pub conv_macs: u64,
    /// Operations on numbers: two for each of `macs`, one for any other function of an element.
    pub flops: u64,
}

/// The steps of a plan, as the CPU of this machine runs them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlanSummary {
    /// How many there are.
    pub steps: usize,
    /// How often each kind occurs.
    pub kinds: BTreeMap<String, usize>,
    /// Those that run on the CPU whatever the device; all others run on either.
    pub host_only: usize,
    /// Channels side by side in memory: as wide as the vector instructions.
    pub block: usize,
    /// Each step with what it takes and gives, in their order, and where it runs; empty unless asked for.
    pub list: Vec<String>,
}

/// What intermediate values take, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryUse {
    /// For this many entries.
    pub batch: usize,
    /// With values sharing memory that are never needed at the same time.
    pub reused: u64,
    /// With memory for each.
    pub without_reuse: u64,
    /// In how many buffers.
    pub buffers: usize,
}

impl Model {
    /// What the inference engine makes of the model's graph.
    ///
    /// # Errors
    /// `Invalid` where the graph contradicts itself: a value that nothing computes, two of the same name, a cycle, a tensor
    /// that is not as large as it declares. Shapes that don't fit together are not an error but the report's `problem`.
    pub fn analyse(&self, options: &GraphOptions) -> Result<GraphReport, InferError> {
        let proto = model::parse(self.path(), self.bytes())?;
        let graph = import(proto).map_err(|reason| InferError::Invalid { path: self.path().into(), reason })?;
        Ok(GraphReport::new(graph, options))
    }
}

impl GraphReport {
    fn new(imported: Graph, options: &GraphOptions) -> Self {
        let lacking = imported.nodes.iter().filter_map(|node| match &node.op {
            Op::Other { name, why } => {
                Some(LackingOperator { operator: name.clone(), node: node.name.clone(), why: (*why).into() })
            }
            _ => None,
        });
        let mut report = Self {
            file: GraphSummary::new(&imported),
            fused: None,
            problem: None,
            rewrites: Vec::new(),
            batch: None,
            batch_fixed: None,
            lacking: lacking.collect(),
            cost: None,
            plan: None,
            memory: None,
            unknown: None,
        };
        let (nodes, whole) = (imported.nodes.clone(), imported.clone());
        let mut graph = match batch::free(&imported) {
            Ok(batched) => {
                report.batch = Some(batched.symbol);
                batched.graph
            }
            Err(reason) => {
                report.batch_fixed = Some(reason);
                let mut graph = imported;
                if let Err(problem) = infer(&mut graph) {
                    // What keeps the shapes from fitting keeps the batch from being free.
                    report.batch_fixed = None;
                    report.problem = Some(problem);
                    if options.nodes {
                        report.file.list = lines(&graph, &nodes);
                    }
                    return report;
                }
                graph
            }
        };
        if options.nodes {
            // With the shapes that were found.
            report.file.list = lines(&graph, &nodes);
        }
        report.rewrites = passes::run(&mut graph);
        let mut fused = GraphSummary::new(&graph);
        if options.nodes {
            fused.list = lines(&graph, &graph.nodes);
        }
        report.fused = Some(fused);
        drop(nodes);
        report.measure(graph, &whole, options);
        report
    }

    fn measure(&mut self, graph: Graph, imported: &Graph, options: &GraphOptions) {
        let mut sizes: BTreeMap<String, i64> = BTreeMap::new();
        let given = options.sizes.iter().map(|(name, n)| (name, *n));
        for (name, n) in given.chain(self.batch.as_ref().map(|batch| (batch, 1))) {
            sizes.insert(name.clone(), i64::try_from(n).unwrap_or(i64::MAX));
        }
        let mut open = BTreeSet::new();
        for shape in graph.inputs.iter().filter_map(|&id| graph.shape(id)) {
            shape.iter().for_each(|d| d.collect_symbols(&mut open));
        }
        open.retain(|name| !sizes.contains_key(name));
        if !open.is_empty() {
            let more = if open.len() > MAX_SHOWN { ", …" } else { "" };
            let names: Vec<_> = open.iter().take(MAX_SHOWN).map(|name| short_name(name)).collect();
            self.unknown = Some(format!("depends on the size of {}{more}", names.join(", ")));
            return;
        }
        self.cost = entry_cost(&graph, &sizes);
        if self.cost.is_none() {
            self.unknown = Some("not every shape is known".into());
        }
        let shapes = graph.inputs.iter().map(|&id| {
            let shape = graph.shape(id)?.iter().map(|d| d.at(&sizes).map(Size::fixed)).collect::<Option<Vec<_>>>()?;
            fixed_shape(&shape)
        });
        let Some(shapes) = shapes.collect::<Option<Vec<_>>>() else { return };
        // A graph may be large, and the plan's is another.
        drop(graph);
        // Whether or not it is free, each entry of a batch is computed by itself.
        let batch = options.batch.max(1);
        match planned(imported, &shapes, batch, options) {
            Ok(plan) => {
                let bytes = |numbers: usize| (numbers as u64).saturating_mul(4).saturating_mul(batch as u64);
                let (reused, without_reuse) = (bytes(plan.memory.total()), bytes(plan.memory.without_reuse()));
                self.memory = Some(MemoryUse { batch, reused, without_reuse, buffers: plan.memory.buffers.len() });
                self.plan = Some(PlanSummary::new(&plan, options.nodes));
            }
            Err(reason) => self.unknown = Some(reason),
        }
    }
}

/// The plan for one entry of inputs of these shapes.
fn planned(imported: &Graph, shapes: &[Vec<usize>], batch: usize, options: &GraphOptions) -> Result<Plan, String> {
    let (graph, _) = concrete(imported, shapes)?;
    let buffer_limit = usize::try_from(options.buffer_limit / 4).unwrap_or(usize::MAX) / batch;
    let memory_limit = usize::try_from(crate::SessionOptions::default().memory_limit / 4).unwrap_or(usize::MAX);
    let target = Target { block: SimdLevel::detect().block(), planes: false, buffer_limit, memory_limit };
    lower(&graph, &target).map_err(|refusal| match &*refusal.operator {
        "" => refusal.reason,
        operator => {
            let (operator, node) = (short_name(operator), short_name(&refusal.node));
            format!("{operator} node {node:?}: {}", printable(&refusal.reason))
        }
    })
}

impl PlanSummary {
    fn new(plan: &Plan, list: bool) -> Self {
        let mut kinds = BTreeMap::new();
        for step in &plan.steps {
            *kinds.entry(step.action.kind().to_owned()).or_default() += 1;
        }
        let line = |step: &crate::plan::Step| {
            format!("{} {step}", if step.action.is_host_only() { "cpu    " } else { "cpu gpu" })
        };
        Self {
            steps: plan.steps.len(),
            kinds,
            host_only: plan.steps.iter().filter(|step| step.action.is_host_only()).count(),
            block: plan.block,
            list: if list { bounded(plan.steps.iter().map(line)) } else { Vec::new() },
        }
    }
}

impl GraphSummary {
    fn new(graph: &Graph) -> Self {
        let mut operators = BTreeMap::new();
        for node in &graph.nodes {
            *operators.entry(node.op.name()).or_default() += 1;
        }
        Self { nodes: graph.nodes.len(), operators, list: Vec::new() }
    }
}

/// How many bytes a list of nodes may have. That of a thousand nodes has a tenth of it.
const MAX_LIST: usize = 4 << 20;
/// How many inputs and outputs of a node are shown.
const MAX_SHOWN: usize = 32;

fn lines(graph: &Graph, nodes: &[Node]) -> Vec<String> {
    bounded(nodes.iter().map(|node| line(graph, node)))
}

/// The first of the lines; of those that are too many, how many there are.
fn bounded(all: impl ExactSizeIterator<Item = String>) -> Vec<String> {
    let (mut lines, mut bytes, count) = (Vec::new(), 0, all.len());
    for line in all {
        bytes += line.len();
        if bytes > MAX_LIST {
            lines.push(format!("… and {} more", count - lines.len()));
            break;
        }
        lines.push(line);
    }
    lines
}

/// `y float N×16×8×8 = Conv 3×3 stride 2 + Relu (x float N×3×16×16, …)`
fn line(graph: &Graph, node: &Node) -> String {
    let some = |texts: &mut dyn Iterator<Item = String>, count: usize| {
        let more = (count > MAX_SHOWN).then(|| format!("… {count} in all"));
        texts.take(MAX_SHOWN).chain(more).collect::<Vec<_>>().join(", ")
    };
    let outputs = some(&mut node.outputs.iter().map(|&id| graph.value(id).text()), node.outputs.len());
    let text = |id: &Option<ValueId>| id.map_or("-".into(), |id| graph.value(id).text());
    let inputs = some(&mut node.inputs.iter().map(text), node.inputs.len());
    format!("{outputs} = {} ({inputs})", node.op)
}

fn entry_cost(graph: &Graph, sizes: &BTreeMap<String, i64>) -> Option<EntryCost> {
    let (mut macs, mut conv_macs, mut flops) = (0u64, 0u64, 0u64);
    let number = |size: &Size| u64::try_from(size.at(sizes)?).ok();
    for node in &graph.nodes {
        let cost = cost(graph, node)?;
        let (node_macs, node_flops) = (number(&cost.macs)?, number(&cost.flops)?);
        macs = macs.checked_add(node_macs)?;
        flops = flops.checked_add(node_flops)?;
        if matches!(node.op, Op::Conv { .. } | Op::ConvTranspose { .. }) {
            conv_macs = conv_macs.checked_add(node_macs)?;
        }
    }
    Some(EntryCost { macs, conv_macs, flops })
}

impl fmt::Display for GraphReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "graph       {}", self.file)?;
        if let Some(problem) = &self.problem {
            writeln!(f, "problem     {problem}")?;
        }
        if let Some(fused) = &self.fused {
            writeln!(f, "fused       {fused}")?;
        }
        for Rewrites { rewrite, times } in &self.rewrites {
            writeln!(f, "rewrite     {rewrite}: {times}")?;
        }
        if let Some(symbol) = &self.batch {
            writeln!(f, "batch       free ({}): each entry is computed by itself", short_name(symbol))?;
        }
        if let Some(reason) = &self.batch_fixed {
            writeln!(f, "batch       fixed: {reason}")?;
        }
        if let Some(cost) = &self.cost {
            let mega = |n: u64| n as f64 / 1e6;
            let (macs, conv, flops) = (mega(cost.macs), mega(cost.conv_macs), mega(cost.flops));
            let per = if self.batch.is_some() { "entry" } else { "run" };
            writeln!(f, "cost        {macs:.1} MMAC ({conv:.1} in convolutions), {flops:.1} MFLOP per {per}")?;
        }
        if let Some(plan) = &self.plan {
            let PlanSummary { steps, kinds, host_only, block, .. } = plan;
            let mut kinds: Vec<_> = kinds.iter().collect();
            kinds.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
            let kinds: Vec<_> = kinds.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
            writeln!(f, "plan        {steps} steps in blocks of {block} channels: {}", kinds.join(", "))?;
            let text = match host_only {
                0 => "every step on the CPU or a GPU".to_owned(),
                n => format!("{n} steps on the CPU only, the rest on the CPU or a GPU"),
            };
            writeln!(f, "runs        {text}")?;
        }
        if let Some(memory) = &self.memory {
            let MemoryUse { batch, reused, without_reuse, buffers } = memory;
            let (reused, without) = (*reused as f64 / 1e6, *without_reuse as f64 / 1e6);
            writeln!(
                f,
                "memory      {reused:.1} MB in {buffers} buffers for a batch of {batch}; {without:.1} MB without reuse"
            )?;
        }
        if let Some(unknown) = &self.unknown {
            writeln!(f, "unknown     {}: {unknown}", if self.cost.is_some() { "memory" } else { "cost and memory" })?;
        }
        for lacking in &self.lacking {
            writeln!(f, "lacking     {lacking}")?;
        }
        if let Some(plan) = self.plan.as_ref().filter(|plan| !plan.list.is_empty()) {
            writeln!(f, "\nsteps, and where they run:")?;
            plan.list.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        }
        for (what, summary) in [("in the file", Some(&self.file)), ("fused", self.fused.as_ref())] {
            if let Some(summary) = summary.filter(|s| !s.list.is_empty()) {
                writeln!(f, "\nnodes {what}:")?;
                summary.list.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
            }
        }
        Ok(())
    }
}

/// `130 nodes: Conv 113, Concat 13`
impl fmt::Display for GraphSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut operators: Vec<_> = self.operators.iter().collect();
        operators.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let operators: Vec<_> = operators.iter().map(|(name, n)| format!("{} {n}", short_name(name))).collect();
        write!(f, "{} nodes: {}", self.nodes, operators.join(", "))
    }
}
