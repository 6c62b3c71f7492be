package main

import (
	"encoding/json"
	"math"
	"slices"
)

// series is all that was measured of one thing, in the order of the rounds.
type series []float64

func (s series) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{
		"n": len(s), "min": rounded(s.at(0)), "median": rounded(s.median()), "p90": rounded(s.at(0.9)), "p95": rounded(s.at(0.95)),
		"values": s.rounded(),
	})
}

// at gives a quantile; between two values, what lies between them.
func (s series) at(quantile float64) float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	place := quantile * float64(len(sorted)-1)
	low := int(place)
	if low+1 == len(sorted) {
		return sorted[low]
	}
	return sorted[low] + (place-float64(low))*(sorted[low+1]-sorted[low])
}

func (s series) median() float64 { return s.at(0.5) }

// minus gives the difference round by round.
func (s series) minus(other series) series {
	var out series
	for i := range min(len(s), len(other)) {
		out = append(out, s[i]-other[i])
	}
	return out
}

// over gives the quotient round by round.
func (s series) over(other series) series {
	var out series
	for i := range min(len(s), len(other)) {
		out = append(out, s[i]/other[i])
	}
	return out
}

func (s series) rounded() []float64 {
	out := make([]float64, len(s))
	for i, value := range s {
		out[i] = rounded(value)
	}
	return out
}

func rounded(value float64) float64 { return math.Round(value*1000) / 1000 }
