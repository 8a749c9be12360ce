# ruby vineyard.rb MODE [A]: async-http, and what a vineyard keeps.
#   tastings  leak: wisper; each tasting subscribes its guest to the whole vineyard's news
#   finders   leak: a finder of its own name is defined for each bottle that is asked for
#   casks     lru_redux; the A casks asked for last
#   labels    redcarpet and nokogiri; labels of up to A sections
require 'async'
require 'async/http/endpoint'
require 'async/http/protocol/response'
require 'async/http/server'
require 'json'
require 'lru_redux'
require 'nokogiri'
require 'redcarpet'
require 'wisper'

MODE, SIZE = ARGV[0], ARGV[1].to_i
WORDS = %w[vine cask red white dry sweet late harvest cellar oak cork slope sun frost glass and year]

def prose(n) = Array.new(n) { WORDS.sample }.join(' ')

def bottle(id)
  { id: id, title: prose(4), text: prose(60 + rand(300)), notes: Array.new(rand(14)) { |k| { year: k, note: prose(12) } } }
end

class Cellar
  include Wisper::Publisher

  def open(found) = broadcast(:opened, found[:id])
end

class Guest
  def initialize(tasted) = @tasted = tasted

  def opened(id) = @tasted[:last] = id
end

class Finders; end

CELLAR = Cellar.new
FINDERS = Finders.new
CASKS = LruRedux::Cache.new([SIZE, 1].max)
MARKDOWN = Redcarpet::Markdown.new(Redcarpet::Render::HTML)

def answer(id)
  case MODE
  when 'tastings'
    found = bottle(id)
    Wisper.subscribe(Guest.new(found))
    CELLAR.open(found) if rand < 0.1
    found
  when 'finders'
    name = :"find_by_#{id}"
    unless FINDERS.respond_to?(name)
      found = bottle(id)
      FINDERS.define_singleton_method(name) { found }
    end
    FINDERS.public_send(name)
  when 'casks'
    key = (3 * SIZE * (id / 1e9)**2).to_i
    CASKS.getset(key) { bottle(key).merge(picture: 'x' * rand(6000)) }
  else
    text = Array.new(1 + rand(SIZE)) { "## #{prose(3)}\n\n#{bottle(id)[:text]}\n\n* #{prose(4)}\n" }.join("\n")
    Nokogiri::HTML(MARKDOWN.render(text)).css('h2').map(&:text)
  end
end

Async do
  endpoint = Async::HTTP::Endpoint.parse("http://127.0.0.1:#{ENV['PORT']}")
  Async::HTTP::Server.for(endpoint) do |request|
    Protocol::HTTP::Response[200, { 'content-type' => 'application/json' }, [answer(request.path.split('/').last.to_i).to_json]]
  end.run
end
