//! What lies in memory that an array has given up, or has not taken yet, changes nothing.

use super::*;
use crate::plan::{Action, Array, ArrayId, Function, Kind, Map, Slot, Step, Values, View};

/// The plan with more steps before each of its own, and after the last, that fill whatever memory holds nothing which a later
/// step may read: with NaN, and with a whole number that is no index.
fn poisoned(plan: &Plan) -> Plan {
    let mut made = Plan { steps: Vec::new(), ..plan.clone() };
    let [nan, whole] = [Values::Floats([f32::NAN].into()), Values::Ints([0x5EAF_00D5].into())].map(|values| {
        let kind = if matches!(values, Values::Floats(_)) { Kind::Float } else { Kind::Int };
        add(&mut made, Array { name: "poison".into(), kind, len: 1, constant: Some(values) })
    });
    // Where each step is now, counted from 1; inputs are there before any.
    let mut places = vec![0];
    let mut slots = Vec::new();
    for step in 1..=plan.steps.len() + 1 {
        for (index, buffer) in plan.memory.buffers.iter().enumerate() {
            let poison = if buffer.kind == Kind::Float { nan } else { whole };
            let mut free_from = 0;
            let alive = buffer.slots.iter().filter(|slot| slot.first < step && step <= slot.last);
            // They are in the order of their offsets, and apart.
            for (begin, end) in alive.map(|slot| (slot.offset, slot.offset + slot.len)).chain([(buffer.len, 0)]) {
                if let Some(len) = begin.checked_sub(free_from).filter(|len| *len > 0) {
                    let array = Array { name: "free".into(), kind: buffer.kind, len, constant: None };
                    let id = add(&mut made, array);
                    let from = View { array: poison, offset: 0, strides: vec![0] };
                    let map = Map::new(Function::Copy, &[len], vec![from], View::whole(id, &[len]));
                    made.steps.push(Step { node: "poison".into(), action: Action::Map(map) });
                    let now = made.steps.len();
                    slots.push((
                        index,
                        Slot { array: id, kind: buffer.kind, offset: free_from, len, first: now, last: now },
                    ));
                }
                free_from = end;
            }
        }
        made.steps.extend(plan.steps.get(step - 1).cloned());
        places.push(made.steps.len());
    }
    // After the last step.
    places[plan.steps.len() + 1] = made.steps.len() + 1;
    for slot in made.memory.buffers.iter_mut().flat_map(|buffer| &mut buffer.slots) {
        (slot.first, slot.last) = (places[slot.first], places[slot.last]);
    }
    for (index, slot) in slots {
        made.memory.buffers[index].slots.push(slot);
    }
    made
}

fn add(plan: &mut Plan, array: Array) -> ArrayId {
    plan.arrays.push(array);
    ArrayId(plan.arrays.len() as u32 - 1)
}

#[test]
fn freed_memory_full_of_nan_changes_nothing() {
    let test = "freed_memory_full_of_nan_changes_nothing";
    let Some(context) = context(test) else { return };
    for file in MODELS {
        let Some(model) = load(test, file) else { continue };
        let plan = plan(&model, &context, 2);
        let inputs = inputs(&plan, 2);
        let options = ExecutorOptions { max_batch: 2, ..ExecutorOptions::default() };
        let expected = computed(&context, &plan, options, &inputs);
        let spoiled = Arc::new(poisoned(&plan));
        assert!(spoiled.steps.len() > 2 * plan.steps.len(), "{file}: there is free memory before every step");
        assert!(same_bits(&computed(&context, &spoiled, options, &inputs), &expected), "{file}");
    }
}

/// The test above would notice: of arrays that are said to be free one step too early, some show in the results.
#[test]
fn memory_that_is_freed_too_early_shows() {
    let test = "memory_that_is_freed_too_early_shows";
    let Some(context) = context(test) else { return };
    let Some(model) = load(test, "yunet_s_dynamic.onnx") else { return };
    let plan = plan(&model, &context, 1);
    let inputs = inputs(&plan, 1);
    let options = ExecutorOptions::default();
    let expected = computed(&context, &plan, options, &inputs);
    let early = |slot: &Slot| slot.first > 0 && slot.first < slot.last && slot.last <= plan.steps.len();
    let slots = plan.memory.buffers.iter().flat_map(|buffer| &buffer.slots);
    let chosen: Vec<ArrayId> = slots.filter(|slot| early(slot)).map(|slot| slot.array).step_by(20).collect();
    assert!(chosen.len() >= 3, "{chosen:?}");
    for id in chosen {
        let mut wrong = Plan::clone(&plan);
        let mut slots = wrong.memory.buffers.iter_mut().flat_map(|buffer| &mut buffer.slots);
        slots.find(|slot| slot.array == id).expect("it has a place").last -= 1;
        let found = computed(&context, &Arc::new(poisoned(&wrong)), options, &inputs);
        assert!(!same_bits(&found, &expected), "{:?}", plan.array(id).name);
    }
}

/// The same on the CPU, with every kind of instruction, on one thread and on two.
#[test]
fn freed_memory_full_of_nan_changes_nothing_on_the_cpu() {
    let test = "freed_memory_full_of_nan_changes_nothing_on_the_cpu";
    for file in MODELS {
        let Some(model) = load(test, file) else { continue };
        // In plain Rust a large model takes a minute.
        for level in SimdLevel::available().filter(|level| *level != SimdLevel::Scalar || file.starts_with("yunet")) {
            let target =
                Target { block: level.block(), planes: false, buffer_limit: usize::MAX, memory_limit: 1 << 28 };
            let plan = lowered(&model, &target);
            let inputs = inputs(&plan, 1);
            let computed = |threads: usize, poisoned: bool| {
                let pool = Arc::new(Pool::new(threads));
                let executor = cpu::Executor::new(Arc::clone(&plan), &Packed::default(), pool, level).unwrap();
                let mut executor = if poisoned { executor.poisoned() } else { executor };
                let mut outputs = vec![Vec::new(); plan.outputs.len()];
                executor.run(&slices(&inputs), &mut outputs).unwrap();
                outputs
            };
            let expected = computed(1, false);
            for threads in [1, 2] {
                assert!(same_bits(&computed(threads, true), &expected), "{file}: {level}, {threads} threads");
            }
        }
    }
}
