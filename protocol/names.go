package protocol

import (
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Short is the name used in JSON, SQL, SigMF and on the command line: gnss, ntp, system, ...
func (q TimeQuality) Short() string { return enumShort(q.Descriptor(), q.Number()) }

// Short is the name used in JSON, SQL and on the command line: gain_too_low, overload, ...
func (f Flag) Short() string { return enumShort(f.Descriptor(), f.Number()) }

// Short is the name used in JSON, SQL and on the command line: quota, corrupt, ...
func (r Gap_Reason) Short() string { return enumShort(r.Descriptor(), r.Number()) }

// Short is the name used in JSON, SQL and on the command line: accepted, capturing, ...
func (s Reply_State) Short() string { return enumShort(s.Descriptor(), s.Number()) }

// Final tells whether no other reply follows one with this state.
func (s Reply_State) Final() bool {
	switch s {
	case Reply_STATE_DONE, Reply_STATE_REFUSED, Reply_STATE_FAILED, Reply_STATE_EXPIRED, Reply_STATE_CANCELLED:
		return true
	case Reply_STATE_UNSPECIFIED, Reply_STATE_ACCEPTED, Reply_STATE_CAPTURING, Reply_STATE_UPLOADING:
		return false
	}
	return false
}

// ParseTimeQuality reads a short or full name.
func ParseTimeQuality(name string) (TimeQuality, error) {
	n, err := parseEnum("time_quality", TimeQuality(0).Descriptor(), name)
	return TimeQuality(n), err
}

// ParseFlag reads a short or full name.
func ParseFlag(name string) (Flag, error) {
	n, err := parseEnum("flags", Flag(0).Descriptor(), name)
	return Flag(n), err
}

// ParseGapReason reads a short or full name.
func ParseGapReason(name string) (Gap_Reason, error) {
	n, err := parseEnum("reason", Gap_Reason(0).Descriptor(), name)
	return Gap_Reason(n), err
}

// ParseReplyState reads a short or full name.
func ParseReplyState(name string) (Reply_State, error) {
	n, err := parseEnum("state", Reply_State(0).Descriptor(), name)
	return Reply_State(n), err
}

// enumShort is the lower-case name without the enum's prefix; the number where this version knows no name.
func enumShort(ed protoreflect.EnumDescriptor, n protoreflect.EnumNumber) string {
	vd := ed.Values().ByNumber(n)
	if vd == nil {
		return strconv.Itoa(int(n))
	}
	return strings.ToLower(string(vd.Name()[enumPrefixLen(ed):]))
}

// enumNumber finds the value of a short or full name.
func enumNumber(ed protoreflect.EnumDescriptor, name string) (protoreflect.EnumNumber, bool) {
	if vd := ed.Values().ByName(protoreflect.Name(name)); vd != nil {
		return vd.Number(), true
	}
	prefix := ed.Values().Get(0).Name()[:enumPrefixLen(ed)]
	upper := strings.ToUpper(name)
	if upper == name {
		return 0, false
	}
	if vd := ed.Values().ByName(prefix + protoreflect.Name(upper)); vd != nil {
		return vd.Number(), true
	}
	return 0, false
}

// enumPrefixLen is the length of TIME_QUALITY_ in TIME_QUALITY_UNSPECIFIED.
func enumPrefixLen(ed protoreflect.EnumDescriptor) int {
	return len(strings.TrimSuffix(string(ed.Values().Get(0).Name()), "UNSPECIFIED"))
}

func parseEnum(field string, ed protoreflect.EnumDescriptor, name string) (protoreflect.EnumNumber, error) {
	if n, ok := enumNumber(ed, name); ok {
		return n, nil
	}
	known := make([]string, 0, ed.Values().Len())
	for i := 1; i < ed.Values().Len(); i++ {
		known = append(known, enumShort(ed, ed.Values().Get(i).Number()))
	}
	return 0, refuse(CodeMalformed, field, name, "want one of %s", strings.Join(known, ", "))
}
