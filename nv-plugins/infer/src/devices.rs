use std::fmt;

use serde::Serialize;

use crate::gpu::{self, AdapterDescription};
use crate::{Device, SimdLevel};

/// What this machine has to run models on, to be shown or serialised. `Display` gives several lines for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeviceReport {
    /// The CPU.
    pub cpu: CpuDescription,
    /// The ways to a GPU that were tried, as in `"Vulkan"`.
    pub looked_for: Vec<String>,
    /// What was found, hardware and software.
    pub adapters: Vec<AdapterDescription>,
    /// What [`Device::Auto`] comes to.
    pub auto: AutoChoice,
}

/// What matters of the CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CpuDescription {
    /// The architecture, as in `"x86_64"`.
    pub arch: String,
    /// The widest vector instructions that kernels are written for and that it has.
    pub simd: String,
    /// Threads that can run at once.
    pub threads: usize,
}

/// What [`Device::Auto`] comes to, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AutoChoice {
    /// The device.
    pub device: Device,
    /// Its name.
    pub name: String,
    /// Why that one.
    pub reason: String,
}

impl DeviceReport {
    /// Asks the CPU and every GPU driver that is installed. Having no GPU and no driver is an answer like any other.
    pub fn probe() -> Self {
        Self::new(CpuDescription::probe(), gpu::descriptions())
    }

    fn new(cpu: CpuDescription, adapters: Vec<AdapterDescription>) -> Self {
        let auto = AutoChoice::new(&cpu, &adapters);
        let looked_for = gpu::looked_for().into_iter().map(Into::into).collect();
        Self { cpu, looked_for, adapters, auto }
    }
}

impl CpuDescription {
    fn probe() -> Self {
        Self {
            arch: std::env::consts::ARCH.into(),
            simd: SimdLevel::detect().to_string(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

impl AutoChoice {
    fn new(cpu: &CpuDescription, adapters: &[AdapterDescription]) -> Self {
        let hardware = gpu::choose(Device::Auto, adapters).unwrap_or_default();
        match hardware.first().map(|&i| &adapters[i]) {
            Some(best) => Self {
                device: Device::Gpu,
                name: best.name.clone(),
                reason: match hardware.len() {
                    1 => "it is a hardware GPU".into(),
                    n => format!("of {n} hardware GPUs, {} ones go first", best.kind),
                },
            },
            None => Self {
                device: Device::Cpu,
                name: format!("{}, {}", cpu.arch, cpu.simd),
                reason: if adapters.is_empty() {
                    "there is no GPU".into()
                } else {
                    "there is no hardware GPU; software adapters are used only when asked for".into()
                },
            },
        }
    }
}

impl fmt::Display for DeviceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CpuDescription { arch, simd, threads } = &self.cpu;
        let plural = if *threads == 1 { "" } else { "s" };
        writeln!(f, "cpu         {arch}, {simd}, {threads} thread{plural}")?;
        if self.adapters.is_empty() {
            writeln!(f, "gpu         none: no adapter found by {}", self.looked_for.join(" or "))?;
        }
        for adapter in &self.adapters {
            write_adapter(f, adapter)?;
        }
        let AutoChoice { device, name, reason } = &self.auto;
        writeln!(f, "auto        {device} ({name}): {reason}")
    }
}

fn write_adapter(f: &mut fmt::Formatter<'_>, adapter: &AdapterDescription) -> fmt::Result {
    let role = if adapter.kind.is_hardware() { "gpu" } else { "software" };
    writeln!(f, "{role:<11} {}", adapter.name)?;
    let AdapterDescription { vendor, kind, family, backend, .. } = adapter;
    writeln!(f, "  what      {kind} adapter of {vendor} through {backend}; kernels for {family}")?;
    let driver: Vec<_> = [&adapter.driver, &adapter.driver_info].into_iter().filter(|t| !t.is_empty()).collect();
    if let [first, rest @ ..] = &driver[..] {
        let rest: String = rest.iter().map(|text| format!(", {text}")).collect();
        writeln!(f, "  driver    {first}{rest}")?;
    }
    let subgroups = match adapter.subgroup_size {
        None => "no subgroups".into(),
        Some([least, most]) if least == most => format!("subgroups of {least}"),
        Some([least, most]) => format!("subgroups of {least} to {most}"),
    };
    let features = [
        (adapter.f16, "16-bit floats"),
        (adapter.timestamps, "timestamps"),
        (adapter.pipeline_cache, "pipeline cache"),
    ];
    let features = features.into_iter().filter(|(has, _)| *has).map(|(_, name)| name.to_owned());
    let features: Vec<_> = std::iter::once(subgroups).chain(features).collect();
    writeln!(f, "  features  {}", features.join(", "))?;
    writeln!(
        f,
        "  limits    {} in a binding, {} in a buffer; workgroups of {} and {} invocations; {} storage buffers",
        bytes(adapter.max_binding_bytes),
        bytes(adapter.max_buffer_bytes),
        bytes(adapter.max_workgroup_bytes.into()),
        adapter.max_workgroup_invocations,
        adapter.max_storage_buffers,
    )
}

/// In the largest unit of which there is at least one, as in `"2.0 GiB"`.
fn bytes(n: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.into_iter().find(|(unit, _)| n >= *unit) {
        Some((unit, name)) if n.is_multiple_of(unit) => format!("{} {name}", n / unit),
        Some((unit, name)) => format!("{:.1} {name}", n as f64 / unit as f64),
        None => format!("{n} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu() -> CpuDescription {
        CpuDescription { arch: "x86_64".into(), simd: "AVX2".into(), threads: 4 }
    }

    #[test]
    fn a_machine_without_a_gpu_is_told_as_such() {
        let report = DeviceReport::new(cpu(), Vec::new());
        let text = report.to_string();
        let looked_for = gpu::looked_for().join(" or ");
        let expected = format!(
            "cpu         x86_64, AVX2, 4 threads\n\
             gpu         none: no adapter found by {looked_for}\n\
             auto        cpu (x86_64, AVX2): there is no GPU\n"
        );
        assert_eq!(text, expected);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["auto"]["device"], "cpu");
        assert_eq!(json["adapters"], serde_json::json!([]));
    }

    #[test]
    fn what_is_here_is_told_without_a_failure() {
        let report = DeviceReport::probe();
        assert!(report.cpu.threads >= 1);
        assert!(!report.looked_for.is_empty());
        let text = report.to_string();
        for adapter in &report.adapters {
            assert!(text.contains(&adapter.name), "{text}");
            assert!(adapter.max_storage_buffers >= 4 && adapter.max_binding_bytes >= 1 << 27, "{adapter:?}");
        }
        if report.adapters.iter().all(|adapter| !adapter.kind.is_hardware()) {
            assert_eq!(report.auto.device, Device::Cpu, "{:?}", report.auto);
        }
    }

    #[test]
    fn sizes_have_units() {
        fn check(n: u64, expected: &str) {
            assert_eq!(bytes(n), expected);
        }
        check(128 << 20, "128 MiB");
        check(32 << 10, "32 KiB");
        check((1 << 31) - 1, "2.0 GiB");
        check(500, "500 B");
    }
}
