//! From a shader's text to a kernel that can be dispatched.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::gpu::context::Context;
use crate::gpu::error::{GpuError, one_line};

/// A compute shader in WGSL: entry point `main`, resources in group 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shader<'a> {
    /// What it is for, as errors name it.
    pub(crate) label: &'a str,
    /// Its text.
    pub(crate) source: &'a str,
}

/// Who sees to it that a shader stays within its buffers and ends its loops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Checks {
    /// The shader itself, which was written here. Costs nothing.
    #[default]
    Trusted,
    /// Code that wgpu adds. Costs up to a third of the time; results must be the same.
    Added,
}

/// A compiled compute shader.
#[derive(Debug)]
pub(crate) struct Kernel {
    label: String,
    pipeline: wgpu::ComputePipeline,
    resources: wgpu::BindGroupLayout,
}

/// The kernels of a device. The same text is compiled once, whoever asks for it.
#[derive(Debug, Default)]
pub(crate) struct Kernels {
    known: Mutex<HashMap<Key, Arc<Kernel>>>,
    /// The label of the shaders that do not compile, as if the driver were at fault: for tests.
    #[cfg(test)]
    broken: Mutex<Option<&'static str>>,
}

/// SHA-256 of the text, and who checks.
type Key = ([u8; 32], Checks);

#[cfg(test)]
impl Kernels {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// From now on no shader of this label compiles, not even one that was compiled before.
    pub(crate) fn break_shaders(&self, label: &'static str) {
        *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(label);
    }

    /// The shader, or in its place one that no driver takes.
    fn injected<'a>(&self, shader: Shader<'a>) -> Shader<'a> {
        let broken = *self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        let source = if broken == Some(shader.label) { "fn main() { broken }" } else { shader.source };
        Shader { source, ..shader }
    }
}

impl Context {
    /// Compiles a shader, or finds it compiled. A driver may put part of the work off until the first dispatch: Mesa's
    /// software driver does so with nearly all of it.
    ///
    /// # Errors
    /// `Shader` where the text is wrong or the driver does not take it; `Lost`.
    pub(crate) fn kernel(&self, shader: Shader<'_>, checks: Checks) -> Result<Arc<Kernel>, GpuError> {
        #[cfg(test)]
        let shader = self.kernels().injected(shader);
        let key = (Sha256::digest(shader.source).into(), checks);
        let known = || self.kernels().known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = known().get(&key) {
            return Ok(Arc::clone(kernel));
        }
        // Compiled outside of the lock: other sessions go on meanwhile, and at worst do the same work.
        let kernel = self.compile(shader, checks)?;
        Ok(Arc::clone(known().entry(key).or_insert_with(|| Arc::new(kernel))))
    }

    fn compile(&self, shader: Shader<'_>, checks: Checks) -> Result<Kernel, GpuError> {
        let Shader { label, source } = shader;
        let compiled = self.scoped(label, || {
            let module = module(self.device(), source, checks);
            let pipeline = self.device().create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: None,
                layout: None,
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &[],
                    // Kernels write what they share before they read it.
                    zero_initialize_workgroup_memory: checks == Checks::Added,
                },
                cache: self.cache().map(|cache| cache.pipelines()),
            });
            let resources = pipeline.get_bind_group_layout(0);
            Kernel { label: label.into(), pipeline, resources }
        });
        compiled.map_err(|error| match error {
            GpuError::Invalid { reason, .. } => GpuError::Shader { label: label.into(), reason: one_line(&reason) },
            other => other,
        })
    }

    /// Says what a kernel works on: `buffers` in the order of their bindings.
    ///
    /// # Errors
    /// `Invalid` where they are not what its shader declares, or beyond what the adapter takes; `Lost`.
    pub(crate) fn bind(
        &self,
        kernel: &Kernel,
        buffers: &[wgpu::BufferBinding<'_>],
    ) -> Result<wgpu::BindGroup, GpuError> {
        let entries: Vec<_> = buffers
            .iter()
            .zip(0..)
            .map(|(buffer, binding)| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(buffer.clone()),
            })
            .collect();
        let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &kernel.resources, entries: &entries };
        self.scoped(&kernel.label, || self.device().create_bind_group(&descriptor))
    }
}

impl Kernel {
    /// Adds a run of the kernel over `groups` workgroups to `pass`. Within a pass each dispatch sees what those before it
    /// wrote.
    pub(crate) fn dispatch(&self, pass: &mut wgpu::ComputePass<'_>, resources: &wgpu::BindGroup, groups: [u32; 3]) {
        let [x, y, z] = groups;
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, resources, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
}

#[expect(
    unsafe_code,
    reason = "checks in shaders cost up to a third of their time, and ours are written not to need them"
)]
fn module(device: &wgpu::Device, source: &str, checks: Checks) -> wgpu::ShaderModule {
    let descriptor = wgpu::ShaderModuleDescriptor { label: None, source: wgpu::ShaderSource::Wgsl(source.into()) };
    match checks {
        Checks::Added => device.create_shader_module(descriptor),
        // SAFETY: every text is generated in this crate from shapes that the plan checked. Its indices are clamped to, or
        // proven within, the sizes that its buffers are created with; its loops have bounds fixed in the text; it divides
        // by constants alone. The tests run every kernel with `Checks::Added` too, and compare.
        Checks::Trusted => unsafe {
            device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::gpu::readback::Readbacks;
    use crate::gpu::testing::context;

    const LONG: Duration = Duration::from_secs(120);

    /// y = a · x + y, over whole workgroups of 64.
    const AXPY: Shader<'_> = Shader {
        label: "axpy",
        source: "@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < arrayLength(&x)) {
        y[id.x] = fma(2.5, x[id.x], y[id.x]);
    }
}
",
    };

    fn storage(context: &Context, values: &[f32]) -> wgpu::Buffer {
        context
            .scoped("a buffer", || {
                let buffer = context.device().create_buffer(&wgpu::BufferDescriptor {
                    label: None,
                    size: size_of_val(values) as u64,
                    usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC,
                    mapped_at_creation: false,
                });
                context.queue().write_buffer(&buffer, 0, bytemuck::cast_slice(values));
                buffer
            })
            .unwrap()
    }

    fn axpy(context: &Context, checks: Checks, x: &[f32], y: &[f32], times: usize) -> Result<Vec<f32>, GpuError> {
        let kernel = context.kernel(AXPY, checks)?;
        let (x, out) = (storage(context, x), storage(context, y));
        let resources = context.bind(&kernel, &[x.as_entire_buffer_binding(), out.as_entire_buffer_binding()])?;
        let readbacks = Readbacks::new(context, out.size(), 1)?;
        let mut slot = readbacks.take().expect("one is free");
        let mut encoder = context.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for _ in 0..times {
            kernel.dispatch(&mut pass, &resources, [y.len().div_ceil(64) as u32, 1, 1]);
        }
        drop(pass);
        slot.copy(&mut encoder, &out, 0..out.size());
        let pending = slot.submit(context, encoder)?;
        pending.read(context, LONG, |bytes| bytemuck::cast_slice(bytes).to_vec())
    }

    #[test]
    fn a_kernel_computes_what_its_text_says() {
        let Some(context) = context("a_kernel_computes_what_its_text_says") else { return };
        let x: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        let y = vec![1.0; 1000];
        for checks in [Checks::Trusted, Checks::Added] {
            // Three dispatches in one pass: each sees what the last one wrote.
            let found = axpy(&context, checks, &x, &y, 3).unwrap();
            let expected: Vec<f32> = x.iter().map(|x| 7.5 * x + 1.0).collect();
            assert_eq!(found, expected, "{checks:?}");
        }
    }

    #[test]
    fn the_same_text_is_compiled_once() {
        let Some(context) = context("the_same_text_is_compiled_once") else { return };
        let kernel = |label: &'static str, checks| context.kernel(Shader { label, ..AXPY }, checks).unwrap();
        let first = kernel("a", Checks::Trusted);
        let before = context.kernels().len();
        assert!(Arc::ptr_eq(&first, &kernel("b", Checks::Trusted)));
        assert_eq!(context.kernels().len(), before);
        assert!(!Arc::ptr_eq(&first, &kernel("a", Checks::Added)));
    }

    #[test]
    fn a_shader_that_does_not_compile_is_named_and_the_device_goes_on() {
        let Some(context) = context("a_shader_that_does_not_compile_is_named_and_the_device_goes_on") else { return };
        fn check(context: &Context, source: &str, part: &str) {
            for checks in [Checks::Trusted, Checks::Added] {
                let error = context.kernel(Shader { label: "conv 1×1", source }, checks).unwrap_err();
                let text = error.to_string();
                assert!(matches!(error, GpuError::Shader { .. }), "{text}");
                assert!(text.starts_with("the shader conv 1×1 does not compile: ") && text.contains(part), "{text}");
            }
        }
        check(&context, "fn main() { let x = ", "expected");
        check(&context, "@compute @workgroup_size(64) fn main() { let x: u32 = 1.5; }", "type");
        check(&context, "@compute @workgroup_size(64) fn other() {}", "main");
        check(&context, "@compute @workgroup_size(4096, 4096) fn main() {}", "workgroup");
        let found = axpy(&context, Checks::Trusted, &[1.0; 64], &[0.0; 64], 1).unwrap();
        assert_eq!(found, [2.5; 64]);
    }

    #[test]
    fn buffers_that_do_not_fit_are_refused() {
        let Some(context) = context("buffers_that_do_not_fit_are_refused") else { return };
        let kernel = context.kernel(AXPY, Checks::Trusted).unwrap();
        let x = storage(&context, &[0.0; 64]);
        let error = context.bind(&kernel, &[x.as_entire_buffer_binding()]).unwrap_err();
        assert!(matches!(error, GpuError::Invalid { .. }) && error.to_string().starts_with("axpy: "), "{error}");
    }

    #[test]
    fn a_device_lost_in_the_middle_is_an_error_of_that_work() {
        let Some(context) = context("a_device_lost_in_the_middle_is_an_error_of_that_work") else { return };
        let kernel = context.kernel(AXPY, Checks::Trusted).unwrap();
        let (x, y) = (storage(&context, &[1.0; 64]), storage(&context, &[0.0; 64]));
        let resources = context.bind(&kernel, &[x.as_entire_buffer_binding(), y.as_entire_buffer_binding()]).unwrap();
        let readbacks = Readbacks::new(&context, y.size(), 2).unwrap();
        let work = || {
            let mut slot = readbacks.take().expect("one is free");
            let mut encoder = context.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            kernel.dispatch(&mut pass, &resources, [1, 1, 1]);
            drop(pass);
            slot.copy(&mut encoder, &y, 0..y.size());
            slot.submit(&context, encoder)
        };
        let in_flight = work().unwrap();
        context.destroy();
        // What was on its way may still have come through.
        if let Err(error) = in_flight.read(&context, LONG, <[u8]>::to_vec) {
            assert!(error.is_lost(), "{error}");
        }
        let later = work().and_then(|pending| pending.read(&context, LONG, <[u8]>::to_vec));
        assert!(later.as_ref().is_err_and(GpuError::is_lost), "{later:?}");

        let fresh = Context::open(crate::Device::Software).unwrap().unwrap();
        assert_eq!(axpy(&fresh, Checks::Trusted, &[1.0; 64], &[0.0; 64], 1), Ok(vec![2.5; 64]));
    }
}
