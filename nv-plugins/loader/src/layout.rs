//! Whether the types of a plugin are those of this program.

use nv_plugin_abi::PluginModule_Ref;
use nv_plugin_abi::abi_stable::StableAbi;
use nv_plugin_abi::abi_stable::abi_stability::abi_checking::{AbiInstability, check_layout_compatibility};
use nv_plugin_abi::abi_stable::library::{LibHeader, RootModule};
use nv_plugin_abi::abi_stable::sabi_types::VersionNumber;
use nv_plugin_abi::abi_stable::type_layout::TypeLayout;

use crate::error::Reason;

/// Compares the plugin's types with ours.
///
/// The older side is the interface that the newer must fulfil: the newer may have added what the rules of `nv-plugin-abi`
/// allow, and nothing else. (abi_stable's own check always takes the program as the interface, and so refuses every plugin
/// that is older than the program.)
pub(crate) fn check_layout(header: &LibHeader) -> Result<(), Reason> {
    let version = |strings| VersionNumber::new(strings).map_err(|e| Reason::Entry(e.to_string()));
    let library = version(header.version_strings())?;
    let host = version(PluginModule_Ref::VERSION_STRINGS)?;
    let layout = header.layout().ok_or_else(|| Reason::Entry("it does not tell its types' layout".into()))?;
    let difference = if (library.major, library.minor, library.patch) < (host.major, host.minor, host.patch) {
        difference(layout, PluginModule_Ref::LAYOUT)
    } else {
        difference(PluginModule_Ref::LAYOUT, layout)
    };
    match difference {
        None => Ok(()),
        Some(difference) => Err(Reason::Layout { library: library.to_string(), host: host.to_string(), difference }),
    }
}

/// The first difference between an interface and what should fulfil it: where it is, and what it is.
fn difference(interface: &'static TypeLayout, implementation: &'static TypeLayout) -> Option<String> {
    let errors = check_layout_compatibility(interface, implementation).err()?;
    let first = errors.errors.iter().find_map(|error| Some((error, error.errs.first()?)));
    let Some((error, instability)) = first else { return Some("they differ".into()) };
    // The types of the steps are private; their Debug text names the field or function.
    let mut path: Vec<_> = error.stack_trace.iter().map(|step| name_in(&format!("{:?}", step.expected))).collect();
    path.retain(|step| !step.bytes().all(|b| b.is_ascii_digit()));
    path.dedup();
    let place = if path.is_empty() { String::new() } else { format!("at {}: ", path.join(".")) };
    Some(format!("{place}{}", explain(instability)))
}

fn name_in(debug: &str) -> String {
    let name = debug.split_once("name: ").and_then(|(_, text)| text.split('"').nth(1)).unwrap_or("?");
    if name == "__returns" { "result".into() } else { name.into() }
}

fn explain(instability: &AbiInstability) -> String {
    use AbiInstability as A;
    match instability {
        A::Size(e) => format!("{} bytes expected, {} found", e.expected, e.found),
        A::Alignment(e) => format!("an alignment of {} expected, {} found", e.expected, e.found),
        A::FieldCountMismatch(e) => format!("{} fields expected, {} found", e.expected, e.found),
        A::Name(e) => format!("a type {} expected, {} found", e.expected, e.found),
        A::Package(e) => format!("a type of package {} expected, of {} found", e.expected, e.found),
        A::PackageVersion(e) => format!("a type of version {} expected, of {} found", e.expected, e.found),
        A::UnexpectedField(e) => format!("field {} expected, {} found", e.expected.name(), e.found.name()),
        // The others are worded for the authors of abi_stable; their name says enough.
        other => {
            let text = format!("{other:?}");
            text.split(['(', ' ', '{']).next().unwrap_or("they differ").to_owned()
        }
    }
}

#[cfg(test)]
#[allow(dead_code, non_camel_case_types, reason = "abi_stable's derive makes types called Foo_Ref, with getters")]
mod tests {
    use super::*;

    macro_rules! module {
        ($name:ident, { $($field:ident: $ty:ty),* }, { $($function:ident),* }) => {
            mod $name {
                use abi_stable::StableAbi;

                #[repr(C)]
                #[derive(StableAbi)]
                pub(crate) struct Value {
                    $($field: $ty,)*
                }

                #[repr(C)]
                #[derive(StableAbi)]
                #[sabi(kind(Prefix(prefix_ref = Module_Ref)))]
                #[sabi(missing_field(option))]
                pub(crate) struct Module {
                    #[sabi(last_prefix_field)]
                    pub(crate) get: extern "C" fn() -> Value,
                    $(pub(crate) $function: extern "C" fn(Value),)*
                }
            }
        };
    }

    module!(then, { a: u32, b: f32 }, {});
    module!(function_added, { a: u32, b: f32 }, { put });
    module!(field_added, { a: u32, b: f32, c: u64 }, {});
    module!(fields_swapped, { b: f32, a: u32 }, {});
    module!(type_changed, { a: i32, b: f32 }, {});

    #[test]
    fn the_newer_side_may_have_added() {
        let (old, new) = (then::Module_Ref::LAYOUT, function_added::Module_Ref::LAYOUT);
        assert_eq!(difference(old, old), None);
        assert_eq!(difference(old, new), None);
        assert!(difference(new, old).is_some(), "the other way round it must not be asked");
    }

    #[test]
    fn what_differs_is_named() {
        fn check(changed: &'static TypeLayout, expected: &str) {
            assert_eq!(difference(then::Module_Ref::LAYOUT, changed).as_deref(), Some(expected));
        }
        check(field_added::Module_Ref::LAYOUT, "at get.result: 8 bytes expected, 16 found");
        check(fields_swapped::Module_Ref::LAYOUT, "at get.result: field a expected, b found");
        check(type_changed::Module_Ref::LAYOUT, "at get.result.a: a type u32 expected, i32 found");
    }
}
