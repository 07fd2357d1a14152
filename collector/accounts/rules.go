package accounts

import (
	"strings"

	"github.com/fulgidus/heimdall/protocol"
)

// right is one thing that an identity may do with the topics of a filter.
type right struct {
	publish bool // else subscribe and receive
	filter  string
}

// Rules are what each kind of identity may do. All that is not named is refused.
type Rules struct {
	Topics        protocol.Topics
	HomeAssistant protocol.HomeAssistant
}

// station is what a station may do: what its agent does, under its own name.
func (r Rules) station(id string) []right {
	t := r.Topics
	publish := []string{t.Status(id), t.Info(id), t.State(id), t.Batch(id), r.HomeAssistant.Device(id)}
	for _, kind := range protocol.Kinds() {
		publish = append(publish, t.Record(id, kind))
	}
	return append(rights(true, publish...), rights(false, append(t.AgentFilters(id), r.HomeAssistant.Status())...)...)
}

// subscriber is what a subscriber may do: read what stations publish of themselves, also for Home Assistant, and the mirror.
func (r Rules) subscriber() []right {
	filters := append(r.Topics.StationFilters(), r.Topics.JSONFilter("+"), r.Topics.CollectorStatus("+"), r.HomeAssistant.Devices())
	return rights(false, filters...)
}

// collector is what a collector may do: all below the prefix, and take back what stations told Home Assistant.
func (r Rules) collector(stations ...string) []right {
	list := append(rights(true, r.Topics.All()), rights(false, r.Topics.All())...)
	for _, id := range stations {
		list = append(list, rights(true, r.HomeAssistant.Device(id))...)
	}
	return list
}

// describes tells whether a topic is where a station, known or not any more, describes itself to Home Assistant.
func (r Rules) describes(topic string) bool {
	before, after, _ := strings.Cut(r.HomeAssistant.Device("+"), "+")
	rest, is := strings.CutPrefix(topic, before)
	id, ends := strings.CutSuffix(rest, after)
	return is && ends && protocol.ValidStation(id) == nil
}

// of is what an account may do.
func (r Rules) of(a protocol.Account) []right {
	if a.Kind == protocol.AccountSubscriber {
		return r.subscriber()
	}
	return r.station(a.Username)
}

func rights(publish bool, filters ...string) []right {
	list := make([]right, len(filters))
	for i, f := range filters {
		list[i] = right{publish: publish, filter: f}
	}
	return list
}

// allowed tells whether one of the rights covers a topic or a filter as a whole.
func allowed(list []right, publish bool, filter string) bool {
	for _, r := range list {
		if r.publish == publish && covers(r.filter, filter) {
			return true
		}
	}
	return false
}

// covers tells whether all topics that match a filter match another one, too. A topic is a filter of itself.
func covers(wide, narrow string) bool {
	if strings.HasPrefix(narrow, "$") != strings.HasPrefix(wide, "$") {
		return false // a wildcard at the first level does not reach the broker's own topics
	}
	for {
		w, wideRest, wideMore := strings.Cut(wide, "/")
		n, narrowRest, narrowMore := strings.Cut(narrow, "/")
		switch {
		case w == "#":
			return true
		case n == "#", w != "+" && w != n:
			return false
		case !wideMore && !narrowMore:
			return true
		case wideMore && !narrowMore:
			return wideRest == "#" // a/# matches a as well
		case !wideMore:
			return false
		}
		wide, narrow = wideRest, narrowRest
	}
}
