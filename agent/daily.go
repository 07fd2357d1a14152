package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/agent/link"
	"github.com/fulgidus/heimdall/agent/quota"
	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/protocol"
)

// openDaily makes the account of delivery.daily_bytes; without a limit, or a broker, there is none.
func (a *Agent) openDaily() {
	if a.cfg.Delivery.DailyBytes == nil || a.cfg.MQTT.URL == "" {
		return
	}
	limit := int64(*a.cfg.Delivery.DailyBytes)
	now := func() (time.Time, bool) { r := a.clock.Reading(); return r.Time, r.Set }
	a.daily = quota.Open(filepath.Join(a.cfg.Spool.Path, "daily"), limit, a.spool.Stats().LastSeq, now, a.log.With("component", "quota"))
	a.publisher.daily, a.publisher.thinner = a.daily, quota.NewThinner(a.daily)
}

// affordsIQ tells the recorder whether so much IQ may be uploaded now.
func (a *Agent) affordsIQ(bytes int64) error {
	if a.daily == nil || a.daily.Afford(protocol.KindIQ, bytes) {
		return nil
	}
	return fmt.Errorf("%s of IQ are more than the station may send now of its %s a day (delivery.daily_bytes): order less, a narrower band, or later in the day of UTC",
		configs.Bytes(bytes), *a.cfg.Delivery.DailyBytes)
}

// tellLeftOut declares what the day's bytes had no room for.
func (a *Agent) tellLeftOut(ctx context.Context, all bool) error {
	if a.publisher.thinner == nil {
		return nil
	}
	for _, gap := range a.publisher.thinner.Gaps(a.now(), all) {
		record := stamp(&protocol.Record{Body: &protocol.Record_Gap{Gap: gap}}, a.clock.Reading())
		if err := a.publisher.Queue(ctx, record); err != nil {
			return fmt.Errorf("declare what delivery.daily_bytes left out: %w", err)
		}
	}
	return nil
}

// leftOut says what of the day is left out; empty when nothing is. It changes seldom: each change is sent to the broker.
func (a *Agent) leftOut() string {
	if a.daily == nil {
		return ""
	}
	return leftOutOf(a.daily.Account())
}

func leftOutOf(account quota.Account) string {
	words := map[protocol.Kind]string{
		protocol.KindIQ: "IQ", protocol.KindSpectrum: "spectra", protocol.KindMeasurement: "measurements (averaged over longer times)",
		protocol.KindDetection: "detections", protocol.KindHealth: "health",
	}
	var named []string
	for _, kind := range account.LeftOut {
		named = append(named, words[kind])
	}
	switch {
	case account.UsedUp:
		return "delivery.daily_bytes are used up: nothing is sent until 00:00 UTC"
	case len(named) > 0:
		return "delivery.daily_bytes: not all is sent today (UTC) of " + strings.Join(named, ", ")
	}
	return ""
}

// reportEvery is how often state and health are told: each minute, or as often as a tenth of the day's bytes allow.
func (a *Agent) reportEvery() time.Duration {
	const reportBytes = 2000 // of a state and a health
	if a.daily == nil {
		return reportEvery
	}
	return max(reportEvery, time.Duration(reportBytes/(0.1*float64(*a.cfg.Delivery.DailyBytes))*float64(day)).Round(time.Second))
}

// dailyText is the account for people.
func dailyText(d quota.Account) string {
	text := fmt.Sprintf("%s of %s sent today (UTC), %s left", configs.Bytes(d.UsedBytes), configs.Bytes(d.LimitBytes), configs.Bytes(d.LeftBytes))
	if left := leftOutOf(d); left != "" {
		text += "; " + left
	}
	return text
}

// rationed is the queue of a station with delivery.daily_bytes.
type rationed struct {
	outbox
	daily *quota.Budget
}

// roomAgain is how soon a record that has to wait is looked at again, with those that came meanwhile.
const roomAgain = time.Second

// Next waits for a record that may be sent today.
func (r rationed) Next(ctx context.Context) (link.Item, error) {
	for {
		item, err := r.outbox.Next(ctx)
		if err != nil || r.daily.MaySend(item.Kind, item.Seq, len(item.Payload)) {
			return item, err
		}
		r.Retry(item.Spool, protocol.Ranges{{From: item.Seq, To: item.Seq}})
		wait := time.NewTimer(roomAgain)
		select {
		case <-ctx.Done():
			wait.Stop()
			return link.Item{}, ctx.Err()
		case <-wait.C:
		}
	}
}

func (a *Agent) closeDaily() error {
	if a.daily == nil {
		return nil
	}
	return a.daily.Close()
}

// checkDaily refuses what not even the station's presence fits into.
func (c DeliveryConfig) checkDaily(report func(field, message string)) {
	if c.DailyBytes != nil && *c.DailyBytes < leastDaily {
		report("delivery.daily_bytes", "want at least 1MiB, of which keep-alives take a part, or leave it out for no limit")
	}
}

const leastDaily = 1 << 20
