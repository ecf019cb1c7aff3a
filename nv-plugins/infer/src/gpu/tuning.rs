//! What kernels look like on which adapter.

use crate::gpu::adapter::{AdapterDescription, AdapterFamily};

/// The choices that kernels depend on besides their step. They change how long a step takes, and in which order a sum's terms
/// are added, but not what is computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tuning {
    pub(super) family: ConvFamily,
    /// Invocations in a workgroup, where they have nothing to do with one another; the fewest.
    pub(super) workgroup: usize,
    /// Whether numbers that lie side by side are moved as pairs in 64-bit words. Of those a device must be capable.
    pub(super) pairs: bool,
    /// Whether weights go into a uniform buffer where they fit in.
    pub(super) uniform_weights: bool,
    /// The most bytes in a uniform buffer.
    pub(super) max_uniform_bytes: usize,
    /// Storage buffers that a kernel may be given.
    pub(super) max_storage_buffers: usize,
    /// The most sums that an invocation of a convolution keeps.
    pub(super) max_sums: usize,
    /// How many fours of a row of a plane an invocation goes along: of few there is work for many, of many nothing is read twice.
    pub(super) stretch: usize,
}

/// How convolutions share what they read between invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ConvFamily {
    /// Each lane of a subgroup holds other weights and hands them to the rest. For where loads are dear and lanes exchange
    /// values for nothing, as where subgroups are SIMD registers.
    Broadcast,
    /// Workgroups put tiles of weights and pixels into memory that they share. For GPUs where that is fast.
    Shared,
    /// Every invocation reads its weights, which are the same for all of a workgroup. Needs nothing; fast where such loads
    /// are.
    Uniform,
}

/// Where the weights of a convolution are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Space {
    Storage,
    /// In a uniform buffer of so many fours.
    Uniform {
        len: usize,
    },
}

/// Invocations in a workgroup, usually.
const LARGE: usize = 64;

impl Tuning {
    /// Invocations in a workgroup of `count` in all, each of which does little: to begin a workgroup takes llvmpipe a tenth of a
    /// microsecond. No more than one of 32 should be idle.
    pub(super) fn workgroup_for(&self, count: usize) -> usize {
        let idle = count.next_multiple_of(LARGE) * 32 > count.next_multiple_of(self.workgroup) * 33;
        if idle { self.workgroup } else { LARGE.max(self.workgroup) }
    }

    /// Where `len` fours of weights go. There are but two lengths of uniform buffers, for the sake of few kernels.
    pub(super) fn space(&self, len: usize) -> Space {
        let fits = |class: &usize| len <= *class && class * 16 <= self.max_uniform_bytes;
        match [1 << 10, 1 << 12].into_iter().find(fits) {
            Some(len) if self.uniform_weights => Space::Uniform { len },
            _ => Space::Storage,
        }
    }

    /// The rules for an adapter.
    pub(crate) fn of(adapter: &AdapterDescription, device: &wgpu::Device) -> Self {
        let limits = device.limits();
        // Eight lanes hold 32 weights.
        let broadcasts = adapter.subgroup_size.is_some_and(|[least, _]| least >= 8);
        let family = match adapter.family {
            AdapterFamily::Llvmpipe | AdapterFamily::Intel if broadcasts => ConvFamily::Broadcast,
            AdapterFamily::Nvidia | AdapterFamily::Amd | AdapterFamily::Apple => ConvFamily::Shared,
            _ => ConvFamily::Uniform,
        };
        let is_llvmpipe = adapter.family == AdapterFamily::Llvmpipe;
        Self {
            family,
            workgroup: if is_llvmpipe { 16 } else { LARGE },
            // llvmpipe loads and stores in a loop over its lanes, which goes round as often for two numbers as for one.
            pairs: is_llvmpipe && device.features().contains(wgpu::Features::SHADER_INT64),
            // llvmpipe reads them in half the time.
            uniform_weights: family != ConvFamily::Shared,
            max_uniform_bytes: (limits.max_uniform_buffer_binding_size as usize).min(1 << 16),
            max_storage_buffers: limits.max_storage_buffers_per_shader_stage as usize,
            // llvmpipe keeps them in the CPU's nearest cache, for which a load costs as much as fifty sums.
            max_sums: if is_llvmpipe { 128 } else { 32 },
            stretch: if is_llvmpipe { 64 } else { 2 },
        }
    }

    /// The same with another family, as for a device that has no 64-bit words.
    #[cfg(test)]
    pub(crate) fn with(self, family: ConvFamily) -> Self {
        Self { family, pairs: false, ..self }
    }
}
