-- Two tenants that share one database and know nothing of each other: acme roasts coffee, globex makes bicycle parts.

create type order_status as enum ('placed', 'paid', 'shipped', 'delivered', 'cancelled');

create table customers (
  id         bigint generated always as identity primary key,
  tenant_id  text not null,
  name       text not null,
  email      text not null,
  city       text not null,
  created_at timestamptz not null default now()
);

create table products (
  id         bigint generated always as identity primary key,
  tenant_id  text not null,
  sku        text not null,
  name       text not null,
  price      numeric(10, 2) not null check (price > 0),
  stock      integer not null check (stock >= 0),
  tags       text[] not null default '{}',
  unique (tenant_id, sku)
);

create table orders (
  id          bigint generated always as identity primary key,
  tenant_id   text not null,
  customer_id bigint not null references customers,
  number      text not null,
  status      order_status not null default 'placed',
  amount      numeric(10, 2) not null,
  shipping    jsonb,
  placed_at   timestamptz not null default now(),
  updated_at  timestamptz not null default now(),
  unique (tenant_id, number)
);

create table order_items (
  order_id   bigint not null references orders on delete cascade,
  position   integer not null,
  tenant_id  text not null,
  product_id bigint not null references products,
  quantity   integer not null check (quantity > 0),
  price      numeric(10, 2) not null,
  primary key (order_id, position)
);

comment on table customers is 'Who buys.';
comment on table products is 'What is sold.';
comment on column products.stock is 'How many are left; what runs low is ordered again.';
comment on table orders is 'What was ordered, and how far it has come.';
comment on column orders.amount is 'The sum of the items, in euros.';
comment on column orders.shipping is 'Carrier and tracking number, once the parcel is on its way.';
comment on table order_items is 'The lines of an order.';

insert into customers (tenant_id, name, email, city) values
  ('acme', 'Ada Lindqvist', 'ada@example.com', 'Malmö'),
  ('acme', 'Bruno Costa', 'bruno@example.com', 'Porto'),
  ('acme', 'Chiara Rossi', 'chiara@example.com', 'Torino'),
  ('acme', 'Daan de Vries', 'daan@example.com', 'Utrecht'),
  ('acme', 'Elif Yılmaz', 'elif@example.com', 'İzmir'),
  ('globex', 'Finn O''Brien', 'finn@example.com', 'Galway'),
  ('globex', 'Grace Mensah', 'grace@example.com', 'Accra'),
  ('globex', 'Hana Nováková', 'hana@example.com', 'Brno'),
  ('globex', 'Ivo Petrov', 'ivo@example.com', 'Plovdiv'),
  ('globex', 'Jun Tanaka', 'jun@example.com', '京都');

insert into products (tenant_id, sku, name, price, stock, tags) values
  ('acme', 'ESP-250', 'Espresso, 250 g', 8.90, 60, '{coffee,dark}'),
  ('acme', 'ESP-1000', 'Espresso, 1 kg', 29.50, 40, '{coffee,dark}'),
  ('acme', 'YIR-250', 'Yirgacheffe, 250 g', 11.40, 40, '{coffee,light}'),
  ('acme', 'DEC-250', 'Decaf, 250 g', 9.80, 30, '{coffee,decaf}'),
  ('acme', 'V60-100', 'Filter papers, 100', 5.20, 80, '{brewing}'),
  ('acme', 'GRN-1', 'Hand grinder', 74.00, 20, '{brewing,steel}'),
  ('globex', 'CHN-11', 'Chain, 11-speed', 34.90, 50, '{drivetrain}'),
  ('globex', 'CAS-11', 'Cassette, 11-32', 62.00, 30, '{drivetrain}'),
  ('globex', 'TYR-32', 'Tyre, 700 × 32', 41.50, 60, '{wheels}'),
  ('globex', 'TUB-32', 'Tube, 700 × 32', 6.90, 90, '{wheels}'),
  ('globex', 'SAD-1', 'Leather saddle', 119.00, 20, '{comfort,leather}'),
  ('globex', 'BEL-1', 'Brass bell', 18.00, 40, '{}');
