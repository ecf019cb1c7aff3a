/// Makes a plugin of the crate in whose root it stands.
///
/// ```text
/// nv_plugin_sdk::export_plugin! { stages: [ByteTrack], batch: [Detect] }
/// ```
///
/// `stages` lists types that implement [`Stage`](crate::Stage) and [`FromConfig`](crate::FromConfig), `batch` types that
/// implement [`BatchProcessor`](crate::BatchProcessor) and `FromConfig`. Either list may be left out. The plugin is called after
/// the package, without a leading `nv-`; `name: "…",` in front of the lists calls it otherwise.
///
/// It makes
/// - `pub fn plugin() -> PluginDescriptor`, for programs that link the crate;
/// - what a host needs of the `.so`: an ELF note and an entry. Their symbols carry the crate's name and version, so that any
///   number of plugin crates link into one program.
///
/// Does not compile with `panic = "abort"`.
#[macro_export]
macro_rules! export_plugin {
    (
        $(name: $name:literal $(,)?)?
        $(stages: [$($stage:ty),* $(,)?] $(,)?)?
        $(batch: [$($batch:ty),* $(,)?] $(,)?)?
    ) => {
        /// What this plugin offers, for a program that links it.
        pub fn plugin() -> $crate::PluginDescriptor {
            $crate::PluginDescriptor {
                name: ::std::string::String::from($crate::__plugin_name!($($name)?)),
                version: ::std::string::String::from(::core::env!("CARGO_PKG_VERSION")),
                kinds: ::std::vec![
                    $($($crate::KindDescriptor::stage::<$stage>(),)*)?
                    $($($crate::KindDescriptor::batch::<$batch>(),)*)?
                ],
            }
        }

        #[cfg(panic = "abort")]
        ::core::compile_error!(
            "a plugin must be compiled with panic = \"unwind\": with \"abort\" a panic in it would end the host. \
             Remove `panic = \"abort\"` from the profile in Cargo.toml"
        );

        #[allow(unsafe_code, reason = "symbols that a host looks for, unique to this crate and version")]
        const _: () = {
            use $crate::__private as nv;

            const ENTRY_SYMBOL: &str = $crate::__plugin_symbol!("nv_plugin_entry_");

            // A section of this name is a note to the linker, which never drops notes; the exported symbol keeps it besides.
            #[used]
            #[cfg_attr(not(any(target_vendor = "apple", windows)), unsafe(link_section = ".note.nextvision"))]
            #[unsafe(export_name = $crate::__plugin_symbol!("nv_plugin_note_"))]
            static NOTE: nv::Note = nv::Note::new(
                $crate::__plugin_name!($($name)?),
                ::core::env!("CARGO_PKG_NAME"),
                ::core::env!("CARGO_PKG_VERSION"),
                ENTRY_SYMBOL,
                nv::TARGET,
                nv::RUSTC,
                if ::core::cfg!(panic = "unwind") { nv::PanicStrategy::Unwind } else { nv::PanicStrategy::Abort },
            );

            extern "C" fn init(host: nv::HostApi_Ref) -> nv::RResult<(), nv::StageError> {
                nv::init(host)
            }

            extern "C" fn info() -> nv::RResult<nv::PluginInfo, nv::StageError> {
                nv::info(plugin, &nv::CrateInfo {
                    authors: ::core::env!("CARGO_PKG_AUTHORS"),
                    license: ::core::env!("CARGO_PKG_LICENSE"),
                })
            }

            extern "C" fn create_stage(
                kind: nv::RStr<'_>,
                config: nv::RStr<'_>,
                context: &nv::BuildContext<'_>,
            ) -> nv::RResult<nv::StageBox, nv::StageError> {
                nv::create_stage(plugin, kind, config, context)
            }

            extern "C" fn create_batch(
                kind: nv::RStr<'_>,
                config: nv::RStr<'_>,
                context: &nv::BuildContext<'_>,
            ) -> nv::RResult<nv::BatchBox, nv::StageError> {
                nv::create_batch(plugin, kind, config, context)
            }

            extern "C" fn extension(name: nv::RStr<'_>) -> *const () {
                nv::extension(name)
            }

            // What abi_stable's `#[export_root_module]` expands to, but for the symbol, which is the same in every library there.
            fn root_module() -> nv::PluginModule_Ref {
                nv::PrefixTypeTrait::leak_into_prefix(nv::PluginModule {
                    init,
                    info,
                    create_stage,
                    create_batch,
                    extension,
                })
            }

            extern "C" fn load_root_module() -> nv::RootModuleResult {
                nv::__call_root_module_loader(root_module)
            }

            #[used]
            #[unsafe(export_name = $crate::__plugin_symbol!("nv_plugin_entry_"))]
            // SAFETY: `load_root_module` returns a `PluginModule_Ref`, erased.
            static ENTRY: nv::LibHeader = unsafe {
                nv::LibHeader::from_constructor::<nv::PluginModule_Ref>(load_root_module, nv::CheckTypeLayout::Yes)
            };
        };
    };
}

/// A symbol that no other crate and no other version of this one has. Underscores and dots: some linkers take no `+`.
#[doc(hidden)]
#[macro_export]
macro_rules! __plugin_symbol {
    ($prefix:literal) => {
        ::core::concat!(
            $prefix,
            ::core::env!("CARGO_CRATE_NAME"),
            "_",
            ::core::env!("CARGO_PKG_VERSION_MAJOR"),
            "_",
            ::core::env!("CARGO_PKG_VERSION_MINOR"),
            "_",
            ::core::env!("CARGO_PKG_VERSION_PATCH"),
            "_",
            ::core::env!("CARGO_PKG_VERSION_PRE")
        )
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __plugin_name {
    () => {
        $crate::__private::plugin_name(::core::env!("CARGO_PKG_NAME"))
    };
    ($name:literal) => {
        $name
    };
}

/// A plugin's name after its package's: without a leading `nv-`.
pub const fn plugin_name(package: &'static str) -> &'static str {
    // Constant code can't compare texts, only bytes.
    match (package.as_bytes(), package.split_at_checked(3)) {
        ([b'n', b'v', b'-', _, ..], Some((_, name))) => name,
        _ => package,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_called_after_their_package() {
        fn check(package: &'static str, name: &str) {
            assert_eq!(plugin_name(package), name);
        }
        check("nv-models", "models");
        check("acme-colour", "acme-colour");
        check("nv-", "nv-");
        check("nv", "nv");
        check("ünv-x", "ünv-x");
    }
}
