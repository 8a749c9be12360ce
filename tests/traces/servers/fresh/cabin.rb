# ruby cabin.rb MODE [A]: Sinatra on puma, and what cabins keep.
#   hooks      leak: each request hangs its notifier on a global list
#   fragments  pieces of pages, A KiB at most; the oldest go
#   exports    a CSV of up to A lines for each request
require 'sinatra/base'
require 'csv'
require 'json'

MODE, SIZE = ARGV[0], ARGV[1].to_i
WORDS = %w[cabin lake wood stove boat key two nights with dog sauna quiet north path and snow]
LOCK = Mutex.new
HOOKS, FRAGMENTS = [], {}
$held = 0

def prose(n) = Array.new(n) { WORDS.sample }.join(' ')

def stay(id)
  { id: id, title: prose(5), text: prose(100 + rand(400)), nights: Array.new(rand(14)) { |k| { night: k, price: rand, note: prose(12) } } }
end

class Cabin < Sinatra::Base
  set server: 'puma', port: ENV['PORT'].to_i, bind: '127.0.0.1', logging: false, environment: :production
  set server_settings: { Threads: '2:4', Silent: true }

  get '/item/:id' do
    id = params[:id].to_i
    content_type :json
    case MODE
    when 'hooks'
      found = stay(id)
      LOCK.synchronize { HOOKS << ->(event) { found[:event] = event } }
      HOOKS.last(3).each { |hook| hook.call(:seen) }
      found.to_json
    when 'fragments'
      key = (12_000 * (id / 1e9)**2).to_i
      LOCK.synchronize do
        page = FRAGMENTS.delete(key)
        $held += (page = stay(key).to_json * 3).bytesize unless page
        FRAGMENTS[key] = page
        $held -= FRAGMENTS.shift[1].bytesize while $held > SIZE * 1024
        page
      end
    else
      CSV.generate { |csv| rand(SIZE).times { |k| csv << stay(k).values_at(:id, :title, :text) } }[0, 20_000]
    end
  end
end

Cabin.run!
