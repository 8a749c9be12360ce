# ruby farm.rb MODE [A]: Grape on thin, and what a farm shop keeps.
#   observers  leak: each basket observes the prices, also when its customer has gone
#   wishes     leak: wishes by customer, whose lists are only added to
#   boxes      boxes wait A seconds to be collected, then go back
#   leaflets   a leaflet of up to A pages for each request, zipped
require 'grape'
require 'rack/handler/thin'
require 'json'
require 'observer'
require 'securerandom'
require 'zlib'

MODE, SIZE = ARGV[0], ARGV[1].to_i
WORDS = %w[egg milk honey barn field hen goat early cheese potato kale ripe fresh market hay and of]
WISHES = Hash.new { |hash, key| hash[key] = [] }
BOXES = {}

def prose(n) = Array.new(n) { WORDS.sample }.join(' ')

def produce(id)
  { id: id, title: prose(4), text: prose(80 + rand(300)), parts: Array.new(1 + rand(16)) { |k| { part: k, price: rand, note: prose(10) } } }
end

class Prices
  include Observable

  def change
    changed
    notify_observers(rand)
  end
end
PRICES = Prices.new

class Basket
  attr_reader :content

  def initialize(id)
    @content = produce(id)
    PRICES.add_observer(self)
  end

  def update(factor) = @factor = factor
end

class Farm < Grape::API
  format :json

  get '/item/:id' do
    id = params[:id].to_i
    case MODE
    when 'observers'
      PRICES.change if (id % 50).zero?
      Basket.new(id).content
    when 'wishes'
      WISHES["customer-#{id % 40_000}"] << produce(id)
      WISHES["customer-#{id % 40_000}"].last
    when 'boxes'
      now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      BOXES.shift while BOXES.any? && BOXES.first[1][:until] < now
      BOXES[SecureRandom.uuid] = { until: now + SIZE, box: [produce(id), produce(id)] }
      { waiting: BOXES.size, **produce(id) }
    when 'leaflets'
      pages = Array.new(1 + rand(SIZE)) { |k| produce(id + k) }
      { bytes: Zlib.gzip(JSON.generate(pages)).bytesize }
    end
  end
end

Thin::Logging.silent = true
Rack::Handler::Thin.run(Farm, Host: '127.0.0.1', Port: ENV['PORT'].to_i)
