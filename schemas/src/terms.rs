//! The names of terms, as columns and people have them.

use crate::v1::TermKind;

impl TermKind {
    /// The protobuf name without its prefix, in small letters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Other => "other",
            Self::TransitionBits => "transition_bits",
            Self::ToolBits => "tool_bits",
            Self::FlowBitsMax => "flow_bits_max",
            Self::FlowBitsSum => "flow_bits_sum",
            Self::TaintBitsMax => "taint_bits_max",
            Self::NoveltyBitsSum => "novelty_bits_sum",
            Self::ShapeBits => "shape_bits",
            Self::SourcedArguments => "sourced_arguments",
            Self::ArgumentsBytes => "arguments_bytes",
            Self::LargestResultBytes => "largest_result_bytes",
            Self::NewHosts => "new_hosts",
            Self::Repeats => "repeats",
            Self::TransitionBitsSum => "transition_bits_sum",
            Self::TransitionBitsMax => "transition_bits_max",
            Self::ToolBitsMax => "tool_bits_max",
            Self::ArgumentsBytesMax => "arguments_bytes_max",
            Self::RepeatsMax => "repeats_max",
            Self::SkipBits => "skip_bits",
            Self::PlaceBits => "place_bits",
            Self::OriginBits => "origin_bits",
            Self::FreshBits => "fresh_bits",
            Self::SkipBitsSum => "skip_bits_sum",
            Self::PlaceBitsMax => "place_bits_max",
            Self::OriginBitsMax => "origin_bits_max",
            Self::FreshBitsMax => "fresh_bits_max",
            Self::ShapeBitsMax => "shape_bits_max",
            Self::LabelledBits => "labelled_bits",
            Self::Cluster => "cluster",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_protobuf() {
        for kind in (0..).map_while(|number| TermKind::try_from(number).ok()) {
            assert_eq!(format!("TERM_KIND_{}", kind.name().to_uppercase()), kind.as_str_name());
        }
    }
}
