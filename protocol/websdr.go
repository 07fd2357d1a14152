package protocol

import "time"

// WebSDR is what clients of the service that Heimdall replaces have said of a station. It stands beside what the station
// says of itself.
type WebSDR struct {
	Station          string
	Created, Updated time.Time
	WebSDRFields
}

// WebSDRFields are in that service's words. Nil is what nobody said.
type WebSDRFields struct {
	Name                *string  `json:"name,omitempty"`
	URL                 *string  `json:"url,omitempty"`
	LatitudeDeg         *float64 `json:"latitude,omitempty"`
	LongitudeDeg        *float64 `json:"longitude,omitempty"`
	LocationDescription *string  `json:"location_description,omitempty"`
	Country             *string  `json:"country,omitempty"`
	AdminEmail          *string  `json:"admin_email,omitempty"`
	AltitudeM           *int     `json:"altitude_asl,omitempty"` // above sea level
	TimeoutS            *int     `json:"timeout_seconds,omitempty"`
	RetryCount          *int     `json:"retry_count,omitempty"`
	Active              *bool    `json:"is_active,omitempty"` // false: acquisitions of those clients leave it out
}
