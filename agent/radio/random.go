package radio

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/bits"
)

// Random numbers of a scene are drawn by key: equal keys give equal numbers in every process, at any time and in any
// order, and an object added to a scene changes no other object's numbers.

// drawKey makes a key of the scene's seed and of names.
func drawKey(seed uint64, names ...string) uint64 {
	h := sha256.New()
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], seed)
	h.Write(b[:])
	for _, n := range names {
		binary.LittleEndian.PutUint64(b[:], uint64(len(n)))
		h.Write(b[:])
		h.Write([]byte(n))
	}
	return binary.LittleEndian.Uint64(h.Sum(nil))
}

// draw is the nth number of a key: splitmix64's output function over a counter.
func draw(key, n uint64) uint64 {
	z := key + (n+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// drawUnit is the nth number of a key, even in (0, 1).
func drawUnit(key, n uint64) float64 { return (float64(draw(key, n)>>11) + 0.5) / (1 << 53) }

// drawNormal is the nth pair of independent normal numbers of a key.
func drawNormal(key, n uint64) (float64, float64) {
	r := math.Sqrt(-2 * math.Log(drawUnit(key, 2*n)))
	s, c := math.Sincos(2 * math.Pi * drawUnit(key, 2*n+1))
	return r * c, r * s
}

// The ziggurat of Marsaglia and Tsang (J. Stat. Softw. 5(8), 2000) with 256 layers; the layer and the place in it
// come from separate bits, which removes the correlation found by Doornik (2005).
const (
	zigLayers = 256
	zigTail   = 3.6541528853610088
	zigArea   = 0.00492867323399
	zigBits   = 23 // of the place in a layer, without sign
)

// gaussian makes normal numbers fast. It is read-only after newGaussian.
type gaussian struct {
	inside [zigLayers]int32 // places below this lie in the layer's rectangle for certain
	width  [zigLayers]float32
	height [zigLayers + 1]float64
	edge   [zigLayers + 1]float64
}

func newGaussian() *gaussian {
	g := &gaussian{}
	density := func(x float64) float64 { return math.Exp(-x * x / 2) }
	g.edge[0] = zigArea / density(zigTail)
	g.edge[1] = zigTail
	for i := 2; i < zigLayers; i++ {
		g.edge[i] = math.Sqrt(-2 * math.Log(zigArea/g.edge[i-1]+density(g.edge[i-1])))
	}
	for i := range zigLayers {
		g.height[i] = density(g.edge[i])
		g.width[i] = float32(g.edge[i] / (1 << zigBits))
		g.inside[i] = int32(g.edge[i+1] / g.edge[i] * (1 << zigBits))
	}
	g.height[zigLayers] = 1
	return g
}

// stream is a fast generator (wyrand): one multiplication a number.
type stream uint64

func (s *stream) next() uint64 {
	*s += 0xa0761d6478bd642f
	hi, lo := bits.Mul64(uint64(*s), uint64(*s)^0xe7037ed1a0b428db)
	return hi ^ lo
}

// fill puts complex normal numbers with the given standard deviation of each part into re and im, from a key.
func (g *gaussian) fill(re, im []float32, key uint64, sigma float32) {
	s := stream(key)
	im = im[:len(re)]
	for i := range re {
		u := s.next()
		re[i] = sigma * g.one(uint32(u), &s)
		im[i] = sigma * g.one(uint32(u>>32), &s)
	}
}

// one makes a normal number of 32 random bits, and of more from the stream in one case of a hundred.
func (g *gaussian) one(u uint32, s *stream) float32 {
	layer := u & (zigLayers - 1)
	place := int32(u) >> 8 // 24 bits with sign
	if x := float32(place) * g.width[layer]; max(place, -place) < g.inside[layer] {
		return x
	}
	return g.slow(layer, place, s)
}

// slow decides at the layers' edges and in the tail.
func (g *gaussian) slow(layer uint32, place int32, s *stream) float32 {
	unit := func() float64 { return (float64(s.next()>>11) + 0.5) / (1 << 53) }
	for {
		x := float64(place) * float64(g.width[layer])
		switch {
		case max(place, -place) < g.inside[layer]:
			return float32(x)
		case layer == 0:
			for {
				over, y := -math.Log(unit())/zigTail, -math.Log(unit())
				if y+y >= over*over {
					return float32(math.Copysign(zigTail+over, x))
				}
			}
		case g.height[layer]+unit()*(g.height[layer+1]-g.height[layer]) < math.Exp(-x*x/2):
			return float32(x)
		}
		u := uint32(s.next())
		layer, place = u&(zigLayers-1), int32(u)>>8
	}
}
