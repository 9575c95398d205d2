//! Loops over slices, compiled for the widest vectors that the machine has.
//!
//! Where each number is computed by itself, the result is the same whatever the width.

/// Defines functions whose bodies run in the best instruction set.
macro_rules! wide {
    ($($(#[$attribute:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block)+) => {$(
        $(#[$attribute])*
        $visibility fn $name($($argument: $type),*) {
            // Arguments of a function are known not to overlap, which what a closure takes in is not.
            #[inline(always)]
            fn body($($argument: $type),*) $body
            pulp::Arch::new().dispatch(
                #[inline(always)]
                move || body($($argument),*),
            );
        }
    )+};
}
pub(crate) use wide;
