package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/protocol"
)

// moment is a time as people write it. What begins with a dash, like -30s, lies that far before now by this machine's
// clock; anything else is a time or a date, which is left for the collector to read.
type moment string

// Decode is called by the command line. It takes the next word as it is: a dash begins no flag here.
func (m *moment) Decode(ctx *kong.DecodeContext) error {
	if ctx.Scan.Peek().IsEOL() {
		return errors.New("a time is missing; " + timeAdvice)
	}
	read, err := readMoment(ctx.Scan.Pop().String(), time.Now())
	*m = read
	return err
}

// timeAdvice says how to write a time.
const timeAdvice = "write one like 2026-11-24T02:00:00Z, or how long ago it was, like -30s"

func readMoment(text string, now time.Time) (moment, error) {
	ago, relative := strings.CutPrefix(text, "-")
	if !relative {
		_, err := protocol.ParseTime(text)
		if _, notDate := time.Parse(time.DateOnly, text); err != nil && notDate != nil {
			return "", fmt.Errorf("%q is no time; %s", text, timeAdvice)
		}
		return moment(text), nil
	}
	var d configs.Duration
	if err := d.UnmarshalText([]byte(ago)); err != nil || d < 0 {
		return "", fmt.Errorf("%q is no time; %s", text, timeAdvice)
	}
	return moment(protocol.FormatTime(now.Add(-time.Duration(d)))), nil
}

// readHertz is how the command line takes frequencies. It takes the next word as it is, so that one below zero is told from
// another flag.
func readHertz(ctx *kong.DecodeContext, target reflect.Value) error {
	const advice = "write one like 145.5M, 12.5k or 77500"
	if ctx.Scan.Peek().IsEOL() {
		return errors.New("a frequency is missing; " + advice)
	}
	text := ctx.Scan.Pop().String()
	var hz configs.Hertz
	if err := hz.UnmarshalText([]byte(text)); err != nil || hz < 0 {
		return fmt.Errorf("%q is no frequency; %s", text, advice)
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil && ctx.Value.Name != "bandwidth" && hz > 0 && hz < leastMeantHz {
		return fmt.Errorf("%s without a unit is %s: write %sM or %sk, or %sHz where that is meant", text, hz, text, text, text)
	}
	target.SetFloat(float64(hz))
	return nil
}

// leastMeantHz is the least frequency that is believed without a unit. Hardly anything is on air below, while numbers of megahertz, such as
// the 1090 of aircraft, are.
const leastMeantHz = 10_000

// selection chooses recordings or records, as the lists of the API do.
type selection struct {
	Stations []string      `name:"station" help:"Only of these stations, separated by commas." placeholder:"A,B"`
	From     moment        `help:"Not before this time: RFC 3339, a date, or how long ago, like -2h." placeholder:"T"`
	To       moment        `help:"Before this time." placeholder:"T"`
	Min      configs.Hertz `help:"Only what reaches above this frequency." placeholder:"HZ"`
	Max      configs.Hertz `help:"Only what reaches below this frequency." placeholder:"HZ"`
}

// query is the selection as parameters of the API.
func (s selection) query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{"station": strings.Join(s.Stations, ","), "from": string(s.From), "to": string(s.To)} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for name, hz := range map[string]configs.Hertz{"min_hz": s.Min, "max_hz": s.Max} {
		if hz != 0 {
			q.Set(name, strconv.FormatFloat(float64(hz), 'f', -1, 64))
		}
	}
	return q
}

// words is the selection as it stands on the command line.
func (s selection) words() string {
	var words []string
	add := func(flag, value string) {
		if value != "" {
			words = append(words, "--"+flag+" "+value)
		}
	}
	add("station", strings.Join(s.Stations, ","))
	add("from", string(s.From))
	add("to", string(s.To))
	for _, edge := range []struct {
		flag string
		hz   configs.Hertz
	}{{"min", s.Min}, {"max", s.Max}} {
		if edge.hz != 0 {
			add(edge.flag, strings.ReplaceAll(edge.hz.String(), " ", ""))
		}
	}
	return strings.Join(words, " ")
}

// none tells whether nothing was chosen.
func (s selection) none() bool { return len(s.query()) == 0 }

// longestPage is the most items that the API gives at once.
const longestPage = 1000

// pages hands over a list of the collector, page by page.
func pages[T any](ctx context.Context, r remote, path string, query url.Values, each func([]T) error) error {
	query = maps.Clone(query)
	query.Set("limit", strconv.Itoa(longestPage))
	for {
		var page struct {
			Items []T    `json:"items"`
			Next  string `json:"next_cursor"`
		}
		if err := r.call(ctx, http.MethodGet, path+"?"+query.Encode(), nil, &page); err != nil {
			return err
		}
		if err := each(page.Items); err != nil {
			return err
		}
		if page.Next == "" {
			return nil
		}
		if page.Next == query.Get("cursor") {
			return fmt.Errorf("read %s: the collector gives the same page again", path)
		}
		query.Set("cursor", page.Next)
	}
}
