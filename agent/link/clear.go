package link

import (
	"context"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// Clear empties what is retained on topics, as the station and without a will. A broker lets one client of a name in: an agent that
// runs would be pushed out.
func Clear(ctx context.Context, cfg Config, topics []string) error {
	cfg = cfg.withDefaults()
	p, err := open(ctx, cfg, clientID(cfg.Station), func(*mqtt.ClientOptions) {})
	if err != nil {
		return err
	}
	for _, topic := range topics {
		if err := p.retain(ctx, topic, 1, nil, cfg.Timeout); err != nil {
			return p.abort(err)
		}
	}
	p.leave()
	return nil
}
