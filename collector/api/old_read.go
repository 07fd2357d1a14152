package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// readOld reads the body of a request of the former service, which answered 422 to whatever it could not use.
func readOld(w http.ResponseWriter, r *http.Request, example string) (*object, error) {
	body, err := readBody(w, r)
	var o *object
	if err == nil {
		o, err = parseObject(body, example)
	}
	if problem, ok := errors.AsType[*problemError](err); ok && problem.Status == http.StatusBadRequest {
		return nil, badField.with(problem.Detail, problem.Errors...)
	}
	return o, err
}

// required finds fault with a member that is absent.
func (o *object) required(name, advice string) {
	if _, ok := o.take(name); !ok {
		o.fault(name, string(o.members[name]), "is missing: "+advice)
	}
}

// number reads a number, which may be written as text; nil when absent or not fitting.
func (o *object) number(name, advice string, fits func(float64) bool) *float64 {
	value, ok := o.take(name)
	if !ok {
		return nil
	}
	text, ok := quantityText(value)
	v, err := strconv.ParseFloat(text, 64)
	if !ok || err != nil || !fits(v) {
		o.fault(name, string(value), advice)
		return nil
	}
	return &v
}

// whole reads a whole number; nil when absent or not between low and high.
func (o *object) whole(name string, low, high int) *int {
	advice := fmt.Sprintf("write a whole number from %d to %d", low, high)
	v := o.number(name, advice, func(v float64) bool { return v == math.Trunc(v) && v >= float64(low) && v <= float64(high) })
	if v == nil {
		return nil
	}
	n := int(*v)
	return &n
}

// text reads a text of so many letters; nil when absent or not fitting.
func (o *object) text(name string, least, most int) *string {
	value, ok := o.take(name)
	if !ok {
		return nil
	}
	var text string
	strange := func(r rune) bool { return unicode.IsControl(r) && !strings.ContainsRune("\t\r\n", r) }
	n := 0
	err := json.Unmarshal(value, &text)
	if err == nil {
		n = utf8.RuneCountInString(text)
	}
	if err != nil || n < least || n > most || strings.ContainsFunc(text, strange) {
		o.fault(name, string(value), fmt.Sprintf("write a text of %d to %d letters without control characters", least, most))
		return nil
	}
	return &text
}

// flag reads true or false; nil when absent or wrong.
func (o *object) flag(name string) *bool {
	var flag *bool
	o.read(name, &flag, "write true or false")
	return flag
}

// oldQuery finds every fault of a query. All parameters of the former service are flags.
func oldQuery(raw string, known []parameter) error {
	q := parseQuery(raw, append(slices.Clone(known), parameter{name: "_", example: "17", many: true})) // as clients write against caches
	for _, p := range known {
		if text := q.values.Get(p.name); text != "" && !isOldWord(text, true) && !isOldWord(text, false) {
			q.fault(p.name, text, "write true or false")
		}
	}
	if len(q.faults) > 0 {
		return badField.faulty(q.faults)
	}
	return nil
}

// oldFlag is a parameter that oldQuery has found good; false when absent.
func oldFlag(r *http.Request, name string) bool { return isOldWord(r.URL.Query().Get(name), true) }

// isOldWord tells whether the former service took a word for true, or for false.
func isOldWord(text string, flag bool) bool {
	words := []string{"0", "f", "false", "n", "no", "off"}
	if flag {
		words = []string{"1", "t", "true", "y", "yes", "on"}
	}
	return slices.Contains(words, strings.ToLower(text))
}
