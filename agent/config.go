package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/fulgidus/heimdall/agent/history"
	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/packaging/service"
	"github.com/fulgidus/heimdall/protocol"
)

// Config is the agent's configuration file. Every key is shown, with its default, in configs/agent.yaml.
type Config struct {
	Station   StationConfig    `yaml:"station"`
	MQTT      MQTTConfig       `yaml:"mqtt"`
	Receivers []ReceiverConfig `yaml:"receivers"`
	Spool     SpoolConfig      `yaml:"spool"`
	Delivery  DeliveryConfig   `yaml:"delivery"`
	Control   ControlConfig    `yaml:"control"`
	Clock     ClockConfig      `yaml:"clock"`
	Log       LogConfig        `yaml:"log"`
	Metrics   MetricsConfig    `yaml:"metrics"`
}

// StationConfig says who and where the station is.
type StationConfig struct {
	ID       string          `yaml:"id"`
	Name     string          `yaml:"name"`
	Position *PositionConfig `yaml:"position"`
}

// PositionConfig is the place of the antenna, WGS 84.
type PositionConfig struct {
	Lat          float64  `yaml:"lat"`
	Lon          float64  `yaml:"lon"`
	HeightM      *float64 `yaml:"height_m"`
	UncertaintyM *float64 `yaml:"uncertainty_m"`
	Publish      string   `yaml:"publish"` // exact, 10km or hidden; empty: 10km
}

// MQTTConfig is the broker and how to speak to it. Without a URL the agent keeps what it measures.
type MQTTConfig struct {
	URL      string         `yaml:"url"`
	Username string         `yaml:"username"`
	Password configs.Secret `yaml:"password"`
	CA       string         `yaml:"ca"`
	Cert     string         `yaml:"cert"`
	Key      string         `yaml:"key"`
	Format   string         `yaml:"format"`
	Prefix   string         `yaml:"prefix"`

	HomeAssistant HomeAssistantConfig `yaml:"homeassistant"`
}

// ReceiverConfig is one radio and what it surveys.
type ReceiverConfig struct {
	ID          string             `yaml:"id"`
	Name        string             `yaml:"name"`
	Source      string             `yaml:"source"`
	Antenna     string             `yaml:"antenna"`
	Plan        []StepConfig       `yaml:"plan"`
	Gain        string             `yaml:"gain"`
	PPM         float64            `yaml:"ppm"`
	FFT         int                `yaml:"fft"`
	Spectrum    SpectrumConfig     `yaml:"spectrum"`
	Measurement MeasurementConfig  `yaml:"measurement"`
	Detect      DetectConfig       `yaml:"detect"`
	History     *configs.Bytes     `yaml:"history"`
	Calibration *CalibrationConfig `yaml:"calibration"`
}

// StepConfig is one step of a receiver's plan.
type StepConfig struct {
	Name      string           `yaml:"name"`
	Center    configs.Hertz    `yaml:"center"`
	Rate      SampleRate       `yaml:"rate"`
	Bandwidth configs.Hertz    `yaml:"bandwidth"`
	Dwell     configs.Duration `yaml:"dwell"`
}

// SpectrumConfig is how many bins are stored, and how often.
type SpectrumConfig struct {
	Bins  int               `yaml:"bins"`
	Every *configs.Duration `yaml:"every"`
}

// MeasurementConfig is how often levels are measured.
type MeasurementConfig struct {
	Every Interval `yaml:"every"`
}

// DetectConfig says what makes an emission.
type DetectConfig struct {
	Threshold   float64           `yaml:"threshold"`
	MinDuration configs.Duration  `yaml:"min_duration"`
	MergeGap    *configs.Duration `yaml:"merge_gap"`
	Hold        *configs.Duration `yaml:"hold"`
}

// CalibrationConfig turns dBFS into dBm.
type CalibrationConfig struct {
	OffsetDB      *float64                 `yaml:"offset_db"`
	UncertaintyDB float64                  `yaml:"uncertainty_db"`
	Table         []CalibrationPointConfig `yaml:"table"`
}

// CalibrationPointConfig is the offset at one frequency.
type CalibrationPointConfig struct {
	Frequency configs.Hertz `yaml:"frequency"`
	OffsetDB  *float64      `yaml:"offset_db"`
}

// SpoolConfig is where unsent records wait.
type SpoolConfig struct {
	Path  string        `yaml:"path"`
	Limit configs.Bytes `yaml:"limit"` // 0: the smaller of 2 GiB and 20 % of the disk
}

// DeliveryConfig says when a record may leave the spool.
type DeliveryConfig struct {
	Ack     string           `yaml:"ack"`
	Window  int              `yaml:"window"`
	Timeout configs.Duration `yaml:"timeout"`
	Keep    Keep             `yaml:"keep"`
	// DailyBytes is what may be sent in a day of UTC; nil: any amount.
	DailyBytes *configs.Bytes `yaml:"daily_bytes"`
}

// ControlConfig says which orders the station takes from the network.
type ControlConfig struct {
	Allow       []string `yaml:"allow"`
	Frequencies []Band   `yaml:"frequencies"`
	Deny        []Band   `yaml:"deny"`
	Hours       string   `yaml:"hours"`
	MaxDuration Interval `yaml:"max_duration"`
}

// ClockConfig is how far the system clock may be off when nothing better is known.
type ClockConfig struct {
	Uncertainty Uncertainty `yaml:"uncertainty"`
}

// LogConfig is what is logged, and how.
type LogConfig struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

// MetricsConfig is where Prometheus may ask.
type MetricsConfig struct {
	// Listen is empty for nowhere, and nil for the usual place unless it is taken: several agents may run on one computer.
	Listen *string `yaml:"listen"`
}

const (
	defaultMetrics      = "127.0.0.1:9433"
	defaultFFT          = 4096
	defaultSpectrumBins = 1024
	day                 = 24 * time.Hour
)

// DefaultConfig is what an empty file would mean.
func DefaultConfig() Config {
	return Config{
		MQTT:     MQTTConfig{Format: "protobuf", Prefix: "heimdall", HomeAssistant: HomeAssistantConfig{Prefix: protocol.DefaultHomeAssistant}},
		Spool:    SpoolConfig{Path: stateDir()},
		Delivery: DeliveryConfig{Ack: "collector", Window: 64, Timeout: configs.Duration(30 * time.Second), Keep: Keep(time.Hour)},
		Clock:    ClockConfig{Uncertainty: Uncertainty(time.Second)},
		Log:      LogConfig{Level: "info", Format: "text"},
	}
}

// stateDir is the service's own directory for root and for the service's account, else the user's.
func stateDir() string {
	if dir := os.Getenv("STATE_DIRECTORY"); filepath.IsAbs(dir) { // systemd made it for the service
		return dir
	}
	if runtime.GOOS != "windows" && (os.Getuid() == 0 || isService()) {
		return "/var/lib/heimdall-agent"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "heimdall-agent")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "state", "heimdall-agent")
	}
	return filepath.Join(os.TempDir(), "heimdall-agent")
}

// isService tells whether this is the account that packages and `service install` make.
func isService() bool {
	account, err := user.Current()
	return err == nil && account.Username == programName
}

var errNoConfig = errors.New("no configuration: give --config FILE, set HEIMDALL_AGENT_CONFIG, or let `heimdall-agent setup` write one")

// findConfig applies the documented order.
func findConfig(flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	if path := os.Getenv("HEIMDALL_AGENT_CONFIG"); path != "" {
		return path, nil
	}
	path := systemConfig()
	if _, err := os.Stat(path); err != nil {
		return "", errNoConfig
	}
	return path, nil
}

func systemConfig() string {
	switch runtime.GOOS {
	case "windows":
		return filepath.Join(os.Getenv("ProgramData"), "Heimdall", "agent.yaml")
	case "darwin":
		return "/Library/Application Support/Heimdall/agent.yaml"
	}
	return "/etc/heimdall/agent.yaml"
}

const envUsername = "HEIMDALL_AGENT_MQTT_USERNAME"

// LoadConfig reads a file over the defaults, then takes the secrets that the environment or the service manager sets.
func LoadConfig(path string) (Config, error) {
	cfg := DefaultConfig()
	err := configs.Read(path, &cfg)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, fmt.Errorf("%s is not there: `heimdall-agent setup --config %s` asks five questions and writes it; the service's own is %s", path, path, systemConfig())
	}
	if err != nil {
		return Config{}, err
	}
	password, v, err := service.Secret("HEIMDALL_AGENT_MQTT_PASSWORD", programName+".mqtt.password")
	if err != nil {
		return Config{}, err
	}
	if v != "" {
		if err := cfg.MQTT.Password.UnmarshalText([]byte(v)); err != nil {
			return Config{}, fmt.Errorf("%s: %w", password, err)
		}
	}
	if cfg.MQTT.Username == "" {
		cfg.MQTT.Username = os.Getenv(envUsername)
	}
	if v != "" && cfg.MQTT.Username == "" {
		return Config{}, fmt.Errorf("%s: mqtt.username is missing, the account that the password belongs to: write it there or in %s", password, envUsername)
	}
	for i := range cfg.Receivers {
		cfg.Receivers[i].setDefaults()
	}
	return cfg, nil
}

func (r *ReceiverConfig) setDefaults() {
	if r.FFT == 0 {
		r.FFT = defaultFFT
	}
	if r.Spectrum.Bins == 0 {
		r.Spectrum.Bins = min(defaultSpectrumBins, r.FFT)
	}
	setDefault(&r.Spectrum.Every, configs.Duration(10*time.Second))
	if r.Measurement.Every == 0 {
		r.Measurement.Every = Interval(time.Second)
	}
	if r.Detect.Threshold == 0 {
		r.Detect.Threshold = 8
	}
	setDefault(&r.Detect.MergeGap, configs.Duration(10*time.Millisecond))
	setDefault(&r.Detect.Hold, configs.Duration(5*time.Minute))
	setDefault(&r.History, history.DefaultLimitBytes)
	for i := range r.Plan {
		if r.Plan[i].Dwell == 0 {
			r.Plan[i].Dwell = configs.Duration(10 * time.Second)
		}
	}
}

// source is the source's URL with the correction of the receiver's crystal in it.
func (r *ReceiverConfig) source() string {
	if r.PPM == 0 {
		return r.Source
	}
	return radio.WithParameter(r.Source, "ppm", strconv.FormatFloat(r.PPM, 'f', -1, 64))
}

func setDefault[T any](p **T, v T) {
	if *p == nil {
		*p = &v
	}
}
