use std::fmt;

use serde::Serialize;

use crate::Device;

/// A GPU, or what stands in for one, as its driver describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AdapterDescription {
    /// Its name, as in `"NVIDIA GeForce RTX 3060"`.
    pub name: String,
    /// Who made it, or the vendor's number where that is not known here.
    pub vendor: String,
    /// What it is reached through: `"Vulkan"`, `"Metal"` or `"DX12"`.
    pub backend: String,
    /// What sort of device it is.
    pub kind: AdapterKind,
    /// What its kernels are chosen by.
    pub family: AdapterFamily,
    /// The driver's name.
    pub driver: String,
    /// The driver's version and what else it says of itself.
    pub driver_info: String,
    /// The least and the greatest number of invocations that run in step and can exchange values; `None` where
    /// shaders can't make use of that.
    pub subgroup_size: Option<[u32; 2]>,
    /// Whether shaders can compute in 16-bit floating point.
    pub f16: bool,
    /// Whether the time that a kernel takes can be measured on the device.
    pub timestamps: bool,
    /// Whether compiled pipelines can be kept from one run to the next by us. A driver may do that too.
    pub pipeline_cache: bool,
    /// The largest part of a buffer that a kernel can be given at once, in bytes.
    pub max_binding_bytes: u64,
    /// The largest buffer, in bytes.
    pub max_buffer_bytes: u64,
    /// Memory that the invocations of a workgroup can share, in bytes.
    pub max_workgroup_bytes: u32,
    /// Invocations in a workgroup.
    pub max_workgroup_invocations: u32,
    /// Storage buffers that one kernel can use.
    pub max_storage_buffers: u32,
}

/// What sort of device an adapter is. The order is that of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AdapterKind {
    /// A GPU with memory of its own.
    Discrete,
    /// A GPU that shares the CPU's memory.
    Integrated,
    /// A GPU that a virtual machine passes on.
    Virtual,
    /// Hardware of a sort that the driver does not name.
    Other,
    /// The CPU, playing a GPU.
    Software,
}

/// Adapters that want the same kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AdapterFamily {
    /// NVIDIA's GPUs.
    Nvidia,
    /// AMD's GPUs.
    Amd,
    /// Intel's GPUs.
    Intel,
    /// Apple's own GPUs.
    Apple,
    /// Mesa's software rasteriser, the Vulkan driver of which is lavapipe.
    Llvmpipe,
    /// Any other.
    Other,
}

impl AdapterKind {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Other => "other",
            Self::Software => "software",
        }
    }

    /// Whether it is more than the CPU under another name.
    pub const fn is_hardware(self) -> bool {
        !matches!(self, Self::Software)
    }
}

impl AdapterFamily {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nvidia => "nvidia",
            Self::Amd => "amd",
            Self::Intel => "intel",
            Self::Apple => "apple",
            Self::Llvmpipe => "llvmpipe",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for AdapterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for AdapterFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl AdapterDescription {
    fn new(info: &wgpu::AdapterInfo, features: wgpu::Features, limits: &wgpu::Limits) -> Self {
        let kind = kind(info.device_type, &info.name);
        let sizes = [info.subgroup_min_size, info.subgroup_max_size];
        Self {
            name: info.name.clone(),
            vendor: vendor(info.vendor, &info.name),
            backend: backend_name(info.backend).into(),
            kind,
            family: family(info.vendor, &info.name, kind),
            driver: info.driver.clone(),
            driver_info: info.driver_info.clone(),
            subgroup_size: features.contains(wgpu::Features::SUBGROUP).then_some(sizes),
            f16: features.contains(wgpu::Features::SHADER_F16),
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            pipeline_cache: features.contains(wgpu::Features::PIPELINE_CACHE),
            max_binding_bytes: limits.max_storage_buffer_binding_size,
            max_buffer_bytes: limits.max_buffer_size,
            max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
            max_workgroup_invocations: limits.max_compute_invocations_per_workgroup,
            max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
        }
    }
}

/// An adapter that a device can be asked of, and its description.
pub(crate) struct Found {
    pub(crate) adapter: wgpu::Adapter,
    pub(crate) description: AdapterDescription,
}

/// The ways to a GPU that this build knows.
fn backends() -> wgpu::Backends {
    let ours = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    wgpu::Instance::enabled_backend_features() & ours
}

/// The names of the ways to a GPU that are tried.
pub(crate) fn looked_for() -> Vec<&'static str> {
    let names = [
        (wgpu::Backends::VULKAN, wgpu::Backend::Vulkan),
        (wgpu::Backends::METAL, wgpu::Backend::Metal),
        (wgpu::Backends::DX12, wgpu::Backend::Dx12),
    ];
    names.into_iter().filter(|(flag, _)| backends().contains(*flag)).map(|(_, b)| backend_name(b)).collect()
}

/// Whether the kernel knows a GPU at all. Where it does not, drivers need not be asked: to load Mesa's for software alone costs
/// 30 MB of memory and a tenth of a second. `true` wherever that can't be told.
pub(crate) fn may_have_hardware() -> bool {
    if !cfg!(target_os = "linux") {
        return true;
    }
    // Direct rendering; NVIDIA's, AMD's and Microsoft's own; those of phones and boards.
    let places = ["/dev/dri", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "/dev/kgsl-3d0", "/dev/mali0", "/dev/pvrsrvkm"];
    places.iter().any(|place| std::path::Path::new(place).exists())
}

/// Asks every driver that is installed. Takes some tens of milliseconds where there is one, hardly any where not.
pub(crate) fn enumerate() -> Vec<Found> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backends();
    // Neither the validation layers nor the debug messages of the drivers: what those say would go to the log of an
    // operator who can do nothing about it.
    descriptor.flags = wgpu::InstanceFlags::empty();
    let instance = wgpu::Instance::new(descriptor);
    let adapters = pollster::block_on(instance.enumerate_adapters(backends()));
    let describe = |adapter: wgpu::Adapter| {
        let description = AdapterDescription::new(&adapter.get_info(), adapter.features(), &adapter.limits());
        Found { adapter, description }
    };
    adapters.into_iter().map(describe).collect()
}

/// Descriptions of all adapters, in the drivers' order.
pub(crate) fn descriptions() -> Vec<AdapterDescription> {
    enumerate().into_iter().map(|found| found.description).collect()
}

/// Which of `adapters` may serve `device`, the best one first: a discrete GPU before an integrated one before others;
/// software only for [`Device::Software`]. None for the CPU, and none for [`Device::Auto`] where only the CPU is left.
///
/// # Errors
/// Where one was demanded and there is none: what was looked for and what was found.
pub(crate) fn choose(device: Device, adapters: &[AdapterDescription]) -> Result<Vec<usize>, String> {
    let fits = |kind: AdapterKind| match device {
        Device::Cpu => false,
        Device::Auto | Device::Gpu => kind.is_hardware(),
        Device::Software => !kind.is_hardware(),
    };
    let mut chosen: Vec<usize> = (0..adapters.len()).filter(|&i| fits(adapters[i].kind)).collect();
    chosen.sort_by_key(|&i| adapters[i].kind);
    match device {
        Device::Gpu if chosen.is_empty() => {
            Err(format!("there is no hardware GPU: {}; use auto or cpu", found_text(adapters)))
        }
        Device::Software if chosen.is_empty() => Err(format!(
            "there is no software adapter: {}; install one (Debian: apt-get install mesa-vulkan-drivers), or use auto \
             or cpu",
            found_text(adapters)
        )),
        _ => Ok(chosen),
    }
}

/// `"Vulkan found llvmpipe (software)"`, or that it found nothing.
pub(crate) fn found_text(adapters: &[AdapterDescription]) -> String {
    let found = |backend: &str| {
        let names: Vec<String> = adapters
            .iter()
            .filter(|adapter| adapter.backend == backend)
            .map(|adapter| format!("{} ({})", adapter.name, adapter.kind))
            .collect();
        let names = if names.is_empty() { "no adapter".into() } else { names.join(", ") };
        format!("{backend} found {names}")
    };
    looked_for().into_iter().map(found).collect::<Vec<_>>().join("; ")
}

fn backend_name(backend: wgpu::Backend) -> &'static str {
    match backend {
        wgpu::Backend::Vulkan => "Vulkan",
        wgpu::Backend::Metal => "Metal",
        wgpu::Backend::Dx12 => "DX12",
        other => other.to_str(),
    }
}

/// Software rasterisers by name, because one that is passed on by a virtual machine calls itself virtual.
const RASTERISERS: [&str; 3] = ["llvmpipe", "lavapipe", "swiftshader"];

fn kind(device_type: wgpu::DeviceType, name: &str) -> AdapterKind {
    let name = name.to_ascii_lowercase();
    if RASTERISERS.iter().any(|rasteriser| name.contains(rasteriser)) {
        return AdapterKind::Software;
    }
    match device_type {
        wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
        wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
        wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
        wgpu::DeviceType::Other => AdapterKind::Other,
        wgpu::DeviceType::Cpu => AdapterKind::Software,
    }
}

/// Vendors by their PCI number; Khronos gives numbers above those to whoever has none.
const VENDORS: [(u32, &str); 10] = [
    (0x1002, "AMD"),
    (0x1010, "Imagination"),
    (0x106b, "Apple"),
    (0x10de, "NVIDIA"),
    (0x13b5, "ARM"),
    (0x1414, "Microsoft"),
    (0x14e4, "Broadcom"),
    (0x5143, "Qualcomm"),
    (0x8086, "Intel"),
    (0x1_0005, "Mesa"),
];

fn vendor(number: u32, name: &str) -> String {
    let known = VENDORS.iter().find(|(n, _)| *n == number).map(|(_, vendor)| *vendor);
    // Metal gives no number, but names begin with the vendor's.
    let named = || VENDORS.iter().find(|(_, vendor)| name.starts_with(vendor)).map(|(_, vendor)| *vendor);
    known.or_else(named).map_or_else(|| format!("{number:#06x}"), str::to_owned)
}

fn family(number: u32, name: &str, kind: AdapterKind) -> AdapterFamily {
    if kind == AdapterKind::Software {
        let lowercase = name.to_ascii_lowercase();
        let is_llvmpipe = ["llvmpipe", "lavapipe"].iter().any(|rasteriser| lowercase.contains(rasteriser));
        return if is_llvmpipe { AdapterFamily::Llvmpipe } else { AdapterFamily::Other };
    }
    match vendor(number, name).as_str() {
        "NVIDIA" => AdapterFamily::Nvidia,
        "AMD" => AdapterFamily::Amd,
        "Intel" => AdapterFamily::Intel,
        "Apple" => AdapterFamily::Apple,
        _ => AdapterFamily::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, kind: AdapterKind) -> AdapterDescription {
        let info = wgpu::AdapterInfo::new(wgpu::DeviceType::Other, wgpu::Backend::Vulkan);
        let info = wgpu::AdapterInfo { name: name.into(), ..info };
        let description = AdapterDescription::new(&info, wgpu::Features::empty(), &wgpu::Limits::default());
        AdapterDescription { kind, backend: looked_for()[0].into(), ..description }
    }

    #[test]
    fn the_best_adapter_is_chosen_and_software_only_when_asked_for() {
        use AdapterKind::{Discrete, Integrated, Other, Software, Virtual};
        fn check(device: Device, kinds: &[AdapterKind], expected: &[usize]) {
            let adapters: Vec<_> = kinds.iter().map(|kind| adapter("x", *kind)).collect();
            assert_eq!(choose(device, &adapters).as_deref(), Ok(expected), "{device} of {kinds:?}");
        }
        check(Device::Auto, &[Software, Integrated, Discrete, Discrete], &[2, 3, 1]);
        check(Device::Gpu, &[Other, Virtual, Software, Integrated], &[3, 1, 0]);
        check(Device::Software, &[Discrete, Software], &[1]);
        check(Device::Auto, &[Software], &[]);
        check(Device::Auto, &[], &[]);
        check(Device::Cpu, &[Discrete], &[]);
    }

    #[test]
    fn what_is_not_there_is_told_with_what_is() {
        fn check(device: Device, adapters: &[AdapterDescription], parts: &[&str]) {
            let reason = choose(device, adapters).unwrap_err();
            assert!(parts.iter().all(|part| reason.contains(part)), "{parts:?} in {reason}");
        }
        let backend = looked_for()[0];
        let found = |what: &str| format!("{backend} found {what}");
        let software = adapter("llvmpipe (LLVM 15.0.6, 256 bits)", AdapterKind::Software);
        check(
            Device::Gpu,
            &[software],
            &["no hardware GPU", &found("llvmpipe (LLVM 15.0.6, 256 bits) (software)"), "use auto or cpu"],
        );
        check(Device::Gpu, &[], &["no hardware GPU", &found("no adapter")]);
        let gpu = adapter("Quadro", AdapterKind::Discrete);
        check(Device::Software, &[gpu], &["no software adapter", &found("Quadro (discrete)"), "mesa-vulkan-drivers"]);
    }

    #[test]
    fn families_go_by_vendor_and_name() {
        fn check(number: u32, name: &str, device_type: wgpu::DeviceType, expected: (AdapterFamily, AdapterKind, &str)) {
            let kind = kind(device_type, name);
            assert_eq!((family(number, name, kind), kind, vendor(number, name).as_str()), expected, "{name}");
        }
        use wgpu::DeviceType::{Cpu, DiscreteGpu, IntegratedGpu, VirtualGpu};
        let (discrete, integrated, software) = (AdapterKind::Discrete, AdapterKind::Integrated, AdapterKind::Software);
        check(0x10de, "NVIDIA GeForce RTX 3060", DiscreteGpu, (AdapterFamily::Nvidia, discrete, "NVIDIA"));
        check(0x1002, "AMD Radeon RX 6600", DiscreteGpu, (AdapterFamily::Amd, discrete, "AMD"));
        check(0x8086, "Intel(R) UHD Graphics", IntegratedGpu, (AdapterFamily::Intel, integrated, "Intel"));
        check(0, "Apple M2", IntegratedGpu, (AdapterFamily::Apple, integrated, "Apple"));
        check(0, "AMD Radeon Pro 5500M", DiscreteGpu, (AdapterFamily::Amd, discrete, "AMD"));
        check(0x1_0005, "llvmpipe (LLVM 15)", Cpu, (AdapterFamily::Llvmpipe, software, "Mesa"));
        let passed_on = "Virtio-GPU Venus (llvmpipe)";
        check(0x1_0005, passed_on, VirtualGpu, (AdapterFamily::Llvmpipe, software, "Mesa"));
        check(0x1414, "Microsoft Basic Render Driver", Cpu, (AdapterFamily::Other, software, "Microsoft"));
        check(0x5143, "Adreno 690", IntegratedGpu, (AdapterFamily::Other, integrated, "Qualcomm"));
        check(0x1234, "Strange", DiscreteGpu, (AdapterFamily::Other, discrete, "0x1234"));
    }
}
