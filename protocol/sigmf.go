package protocol

import "regexp"

// sigmfDatatype is what SigMF 1.2 allows in core:datatype.
var sigmfDatatype = regexp.MustCompile(`^[cr](?:(?:f64|f32|i32|i16|u32|u16)_[lb]e|[iu]8)$`)
