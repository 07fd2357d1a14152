package protocol

// Kind names what a record holds; it is the last part of the record's topic and the name of its member in JSON.
type Kind string

// The kinds of record.
const (
	KindMeasurement Kind = "measurement"
	KindSpectrum    Kind = "spectrum"
	KindDetection   Kind = "detection"
	KindHealth      Kind = "health"
	KindGap         Kind = "gap"
	KindIQ          Kind = "iq"
	KindReply       Kind = "reply"
	KindSite        Kind = "site"
)

// Kinds lists every kind of record.
func Kinds() []Kind {
	return []Kind{KindMeasurement, KindSpectrum, KindDetection, KindHealth, KindGap, KindIQ, KindReply, KindSite}
}

// Kind tells what the record holds; empty when it holds nothing this version knows.
func (r *Record) Kind() Kind {
	switch r.GetBody().(type) {
	case *Record_Measurement:
		return KindMeasurement
	case *Record_Spectrum:
		return KindSpectrum
	case *Record_Detection:
		return KindDetection
	case *Record_Health:
		return KindHealth
	case *Record_Gap:
		return KindGap
	case *Record_Iq:
		return KindIQ
	case *Record_Reply:
		return KindReply
	case *Record_Site:
		return KindSite
	}
	return ""
}

// Known tells whether k is one of Kinds.
func (k Kind) Known() bool {
	switch k {
	case KindMeasurement, KindSpectrum, KindDetection, KindHealth, KindGap, KindIQ, KindReply, KindSite:
		return true
	}
	return false
}
