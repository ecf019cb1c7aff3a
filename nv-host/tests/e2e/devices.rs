//! What models can run on, on machines with and without drivers. Linux alone lets a test choose its drivers.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::world::{Ran, World};

/// Where Linux keeps the descriptions of Vulkan drivers.
const DRIVERS: &str = "/usr/share/vulkan/icd.d";

/// The description of Mesa's software driver. Where it is not installed the test can't look, and says so by name.
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn lavapipe(test: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(DRIVERS).into_iter().flatten().flatten();
    let mut named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("lvp_icd"));
    let found = named.next().map(|entry| entry.path());
    if found.is_none() {
        println!("skipped: {test}: no lavapipe in {DRIVERS}");
    }
    found
}

/// The command with no Vulkan driver but this one.
fn with_driver(world: &World, driver: &Path, args: &[&str]) -> Ran {
    let mut command = world.command(args);
    // The second name is the one that older loaders know.
    for name in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
        command.env(name, driver);
    }
    Ran::from(command.output().expect("nv was built for this test"))
}

fn without_driver(world: &World, args: &[&str]) -> Ran {
    with_driver(world, Path::new("/nonexistent"), args)
}

#[test]
fn a_machine_without_a_driver_runs_on_the_cpu() {
    let world = World::new();
    let ran = without_driver(&world, &["devices"]).exits(0);
    assert!(ran.stdout.contains("gpu         none: no adapter found by Vulkan\n"), "{}", ran.stdout);
    assert!(ran.stdout.lines().any(|line| line.starts_with("auto        cpu (")), "{}", ran.stdout);
    assert_eq!(ran.stderr, "", "nobody is to be told of a driver that is not there");

    let ran = without_driver(&world, &["devices", "--json"]).exits(0);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["adapters"], serde_json::json!([]));
    assert_eq!(report["auto"]["device"], "cpu");
    assert!(report["cpu"]["threads"].as_u64().is_some_and(|threads| threads >= 1), "{report}");

    for device in ["auto", "cpu"] {
        let ran = without_driver(&world, &["run", "a.mp4", "--model", "m.onnx", "--device", device]).exits(0);
        assert_eq!(ran.json_lines().len(), crate::world::FRAMES);
        assert!(!ran.stderr.to_lowercase().contains("vulkan"), "{}", ran.stderr);
    }
}

#[test]
fn a_device_that_is_not_there_is_told_with_what_was_looked_for() {
    let world = World::new();
    let run = |device| without_driver(&world, &["run", "a.mp4", "--model", "m.onnx", "--device", device]);
    run("gpu").exits(4).says(&["gpu", "no hardware GPU", "Vulkan found no adapter", "use auto or cpu"]);
    run("software").exits(4).says(&["software", "no software adapter", "mesa-vulkan-drivers"]);
    run("cuda").exits(2).says(&["cuda"]);
}

#[test]
fn a_software_adapter_is_no_gpu() {
    let Some(lavapipe) = lavapipe("a_software_adapter_is_no_gpu") else { return };
    let world = World::new();
    let ran = with_driver(&world, &lavapipe, &["devices", "--json"]).exits(0);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let adapter = &report["adapters"][0];
    assert_eq!((&adapter["kind"], &adapter["family"]), (&"software".into(), &"llvmpipe".into()), "{report:#}");
    assert!(adapter["max_binding_bytes"].as_u64().is_some_and(|bytes| bytes >= 1 << 27), "{report:#}");
    assert_eq!(report["auto"]["device"], "cpu");
    let ran = with_driver(&world, &lavapipe, &["devices"]).exits(0);
    assert!(ran.stdout.lines().any(|line| line.starts_with("software    llvmpipe")), "{}", ran.stdout);
    assert!(ran.stdout.contains("software adapters are used only when asked for"), "{}", ran.stdout);

    let demand = ["run", "a.mp4", "--model", "m.onnx", "--device", "gpu"];
    with_driver(&world, &lavapipe, &demand).exits(4).says(&["no hardware GPU", "llvmpipe", "(software)"]);
}
